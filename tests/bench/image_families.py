"""The families of text-to-image pipelines and the steps that each takes: see `tests.bench.families`.

Imports nothing heavy.
"""

from __future__ import annotations

STEPS = ("load", "training step", "adapter saved and loaded", "export", "parity", "serve")

# By a short name, the class in diffusers; the first three are families of the product.
FAMILIES = {
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
    "sd1": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "pixart_alpha": "PixArtAlphaPipeline",
    "pixart_sigma": "PixArtSigmaPipeline",
    "sana": "SanaPipeline",
    "kandinsky3": "Kandinsky3Pipeline",
    "qwen_image": "QwenImagePipeline",
    "lumina2": "Lumina2Pipeline",
    "aura_flow": "AuraFlowPipeline",
    "hunyuan_dit": "HunyuanDiTPipeline",
    "chroma": "ChromaPipeline",
}
