from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.filters import Candidate
from components.data.personal_data import PersonalData

FINDER = PersonalData()


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to jane.doe+x@example.co.uk.", "write to [email]."),
        ("联系我foo@bar.com谢谢", "联系我[email]谢谢"),
        ("почта: иван@пример.рф!", "почта: [email]!"),
        ("联系我foo＠bar．com谢谢", "联系我[email]谢谢"),
        ("DE89 3704 0044 0532 0130 00 Please", "[iban] Please"),
        ("IBAN GB82WEST12345698765432.", "IBAN [iban]."),
        ("4111 1111 1111 1111, 5500-0000-0000-0004", "[card], [card]"),
        ("卡号４１１１１１１１１１１１１１１１。", "卡号[card]。"),
        ("+49 (0)30 123456 or 0049 30 1234567", "[phone] or [phone]"),
        ("(555) 234-5678, 555-234-5678, 01 23 45 67 89", "[phone], [phone], [phone]"),
        ("手机13800138000谢谢", "手机[phone]谢谢"),
        ("+٩٦٦ ٥٠ ١٢٣ ٤٥٦٧", "[phone]"),
        ("地址10.0.0.1是, ip4:1.2.3.4/24, 2001:db8::1.", "地址[ip]是, ip4:[ip]/24, [ip]."),
    ],
)
def test_personal_data_is_found_in_any_script_and_nothing_beside_it(text: str, redacted: str) -> None:
    assert FINDER.redacted(text)[0] == redacted


@pytest.mark.parametrize(
    "text",
    [
        "GB82 WEST 1234 5698 7654 33",  # wrong checksums
        "4111 1111 1111 1112",
        "std::vector dead::beef 12:30:45 aa:bb:cc:dd:ee:ff 127.0.0.1 ::1",
        "2024-01-15 10:00, 05.06.2024, 05-06-2024 12, 1,234,567.89, 3.14159265358979",
        "version 1.2.3, 12345678901234567890, ISBN 978-3-16-148410-0, 1700000000000",
        "user@localhost, @name, 5@x, a @ b.com",
        "300.1.1.1",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert FINDER.redacted(text) == (text, Counter())


def test_the_reason_counts_and_repeats_nothing_and_only_the_kinds_asked_for_are_found() -> None:
    candidate = Candidate("", texts=["ann@example.com", "call +49 30 123456, bob@example.com"])
    assert FINDER.fault(candidate) == "it holds personal data: 2 × email, 1 × phone"
    assert PersonalData(kinds=("iban",)).fault(candidate) == ""
    assert candidate.texts[0] == "ann@example.com"


@given(st.text("a1@. :-+DE89(0)\u0661联", max_size=60))
def test_redacting_again_finds_nothing_more(text: str) -> None:
    once, _ = FINDER.redacted(text)
    assert FINDER.redacted(once) == (once, Counter())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["a", "a.", "1 ", "a@", "DE12 ", "@a.", "a:", "+1 (", "2-", "0 1"])
def test_long_texts_take_no_time_that_grows_with_their_square(part: str) -> None:
    FINDER.redacted(part * 50_000)
