BEGIN TRANSACTION;
CREATE TABLE accepted (
	request_id VARCHAR(200) NOT NULL, 
	time FLOAT NOT NULL, 
	user_key TEXT NOT NULL, 
	line TEXT NOT NULL, 
	deployment TEXT NOT NULL, 
	model TEXT NOT NULL, 
	experiment TEXT NOT NULL, 
	variant TEXT NOT NULL, 
	propensity FLOAT NOT NULL, segments TEXT DEFAULT '{}' NOT NULL, messages INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (request_id)
);
INSERT INTO "accepted" VALUES('00000000000000000000000000000000',1760000042.0,'d9d0c9a30402fe9eb79b49639132998c','text','text-2','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000001',1760000046.0,'eb56e1cc52a95b1a35cd7c7b74474b6a','text','text-2','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000002',1760000050.0,'fbd73a6c85a93be2e329f92ed6988e13','text','text-2','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000003',1760000054.0,'43e03d1ebc3c08205726794ba7ea2143','text','text-2','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000004',1760000058.0,'d9d0c9a30402fe9eb79b49639132998c','text','text-2','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000005',1760000062.0,'eb56e1cc52a95b1a35cd7c7b74474b6a','text','text-2','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000006',1760000066.0,'fbd73a6c85a93be2e329f92ed6988e13','text','text-2','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000007',1760000070.0,'43e03d1ebc3c08205726794ba7ea2143','text','text-2','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000008',1760000074.0,'d9d0c9a30402fe9eb79b49639132998c','text','text-2','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000009',1760000078.0,'eb56e1cc52a95b1a35cd7c7b74474b6a','text','text-2','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('0000000000000000000000000000000a',1760000082.0,'fbd73a6c85a93be2e329f92ed6988e13','text','text-2','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('0000000000000000000000000000000b',1760000086.0,'43e03d1ebc3c08205726794ba7ea2143','text','text-2','atelier-text','text-temperature','treatment',0.5,'{}',1);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0010');
CREATE TABLE comparisons (
	sample VARCHAR(32) NOT NULL, 
	phrase TEXT NOT NULL, 
	"left" TEXT NOT NULL, 
	"right" TEXT NOT NULL, 
	left_origin TEXT NOT NULL, 
	right_origin TEXT NOT NULL, 
	PRIMARY KEY (sample)
);
CREATE TABLE deployments (
	deployment VARCHAR(200) NOT NULL, 
	line TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	model TEXT NOT NULL, 
	version TEXT NOT NULL, 
	bento TEXT NOT NULL, 
	time FLOAT NOT NULL, 
	PRIMARY KEY (deployment)
);
INSERT INTO "deployments" VALUES('text-1','text','1111111111111111111111111111111111111111111111111111111111111111','atelier-text','1','atelier_text:1111111111111111',1760000000.0);
INSERT INTO "deployments" VALUES('text-2','text','2222222222222222222222222222222222222222222222222222222222222222','atelier-text','2','atelier_text:2222222222222222',1760000002.0);
INSERT INTO "deployments" VALUES('image-1','image','1111111111111111111111111111111111111111111111111111111111111111','atelier-image','1','atelier_image:1111111111111111',1760000004.0);
INSERT INTO "deployments" VALUES('image-2','image','2222222222222222222222222222222222222222222222222222222222222222','atelier-image','2','atelier_image:2222222222222222',1760000006.0);
CREATE TABLE experiments (
	number INTEGER NOT NULL, 
	experiment VARCHAR(100) NOT NULL, 
	version INTEGER NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	definition JSON NOT NULL, 
	places JSON NOT NULL, 
	time FLOAT NOT NULL, 
	who TEXT NOT NULL, 
	why TEXT NOT NULL, 
	PRIMARY KEY (number), 
	CONSTRAINT each_experiment_version_once UNIQUE (experiment, version)
);
INSERT INTO "experiments" VALUES(1,'text-temperature',1,'running','{"name": "text-temperature", "line": "text", "salt": "text-temperature-1", "variants": {"control": {"weight": 0.5, "temperature": 0.7, "adapter": null, "guidance": null, "steps": null}, "treatment": {"weight": 0.5, "temperature": 0.9, "adapter": null, "guidance": null, "steps": null}}, "alpha": 0.05, "srm_alpha": 0.001, "segment": {}, "share": 1.0, "policy": "fixed", "floor": 0.05, "metric": "like", "dwell_cap_s": 120.0, "min_users": 20, "guardrails": {"slo_s": 5.0, "slow": 0.05, "failed": 0.02, "refused": 0.02}}','{"users": [[0, 10000]], "variants": {"control": [[0, 5000]], "treatment": [[5000, 10000]]}}',1760000031.0,'ops','declared in params.yaml');
CREATE TABLE feedback (
	"key" VARCHAR(300) NOT NULL, 
	request_id VARCHAR(200) NOT NULL, 
	time FLOAT NOT NULL, 
	user_key TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	value FLOAT NOT NULL, received FLOAT DEFAULT '0' NOT NULL, clock TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "feedback" VALUES('d9d0c9a30402fe9eb79b49639132998c:00000000000000000000000000000000:like','00000000000000000000000000000000',1760000044.0,'d9d0c9a30402fe9eb79b49639132998c','like',0.0,1760000045.0,'');
INSERT INTO "feedback" VALUES('eb56e1cc52a95b1a35cd7c7b74474b6a:00000000000000000000000000000001:like','00000000000000000000000000000001',1760000048.0,'eb56e1cc52a95b1a35cd7c7b74474b6a','like',1.0,1760000049.0,'');
INSERT INTO "feedback" VALUES('fbd73a6c85a93be2e329f92ed6988e13:00000000000000000000000000000002:like','00000000000000000000000000000002',1760000052.0,'fbd73a6c85a93be2e329f92ed6988e13','like',1.0,1760000053.0,'');
INSERT INTO "feedback" VALUES('43e03d1ebc3c08205726794ba7ea2143:00000000000000000000000000000003:like','00000000000000000000000000000003',1760000056.0,'43e03d1ebc3c08205726794ba7ea2143','like',0.0,1760000057.0,'');
INSERT INTO "feedback" VALUES('d9d0c9a30402fe9eb79b49639132998c:00000000000000000000000000000004:like','00000000000000000000000000000004',1760000060.0,'d9d0c9a30402fe9eb79b49639132998c','like',1.0,1760000061.0,'');
INSERT INTO "feedback" VALUES('eb56e1cc52a95b1a35cd7c7b74474b6a:00000000000000000000000000000005:like','00000000000000000000000000000005',1760000064.0,'eb56e1cc52a95b1a35cd7c7b74474b6a','like',1.0,1760000065.0,'');
INSERT INTO "feedback" VALUES('fbd73a6c85a93be2e329f92ed6988e13:00000000000000000000000000000006:like','00000000000000000000000000000006',1760000068.0,'fbd73a6c85a93be2e329f92ed6988e13','like',0.0,1760000069.0,'');
INSERT INTO "feedback" VALUES('43e03d1ebc3c08205726794ba7ea2143:00000000000000000000000000000007:like','00000000000000000000000000000007',1760000072.0,'43e03d1ebc3c08205726794ba7ea2143','like',1.0,1760000073.0,'');
INSERT INTO "feedback" VALUES('d9d0c9a30402fe9eb79b49639132998c:00000000000000000000000000000008:like','00000000000000000000000000000008',1760000076.0,'d9d0c9a30402fe9eb79b49639132998c','like',1.0,1760000077.0,'');
INSERT INTO "feedback" VALUES('eb56e1cc52a95b1a35cd7c7b74474b6a:00000000000000000000000000000009:like','00000000000000000000000000000009',1760000080.0,'eb56e1cc52a95b1a35cd7c7b74474b6a','like',0.0,1760000081.0,'');
INSERT INTO "feedback" VALUES('fbd73a6c85a93be2e329f92ed6988e13:0000000000000000000000000000000a:like','0000000000000000000000000000000a',1760000084.0,'fbd73a6c85a93be2e329f92ed6988e13','like',1.0,1760000085.0,'');
INSERT INTO "feedback" VALUES('43e03d1ebc3c08205726794ba7ea2143:0000000000000000000000000000000b:like','0000000000000000000000000000000b',1760000088.0,'43e03d1ebc3c08205726794ba7ea2143','like',1.0,1760000089.0,'');
CREATE TABLE finished (
	request_id VARCHAR(200) NOT NULL, 
	time FLOAT NOT NULL, 
	latency_s FLOAT NOT NULL, 
	outcome TEXT NOT NULL, 
	status INTEGER NOT NULL, 
	batch_size INTEGER NOT NULL, 
	prompt TEXT NOT NULL, 
	output TEXT NOT NULL, 
	prompt_tokens INTEGER NOT NULL, 
	completion_tokens INTEGER NOT NULL, adapter TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (request_id)
);
INSERT INTO "finished" VALUES('00000000000000000000000000000000',1760000043.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000001',1760000047.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000002',1760000051.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000003',1760000055.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000004',1760000059.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000005',1760000063.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000006',1760000067.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000007',1760000071.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000008',1760000075.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000009',1760000079.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('0000000000000000000000000000000a',1760000083.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('0000000000000000000000000000000b',1760000087.0,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
CREATE TABLE label_answers (
	number INTEGER NOT NULL, 
	task VARCHAR(32) NOT NULL, 
	completion TEXT NOT NULL, 
	annotator TEXT NOT NULL, 
	time FLOAT NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(task) REFERENCES label_tasks (task)
);
INSERT INTO "label_answers" VALUES(1,'113c3aa00d87b2c1','a red boat, sticker','ann',1760000040.0);
CREATE TABLE label_tasks (
	task VARCHAR(32) NOT NULL, 
	phrase TEXT NOT NULL, 
	written TEXT NOT NULL, 
	why TEXT NOT NULL, 
	time FLOAT NOT NULL, 
	PRIMARY KEY (task)
);
INSERT INTO "label_tasks" VALUES('113c3aa00d87b2c1','ein rotes Boot','a boat','drift',1760000039.0);
INSERT INTO "label_tasks" VALUES('e7121cc45eb43a14','生日蛋糕','a cake','drift',1760000039.0);
CREATE TABLE leases (
	line VARCHAR(50) NOT NULL, 
	holder TEXT NOT NULL, 
	token INTEGER NOT NULL, 
	expires FLOAT NOT NULL, 
	PRIMARY KEY (line)
);
INSERT INTO "leases" VALUES('text','ops',1,0.0);
INSERT INTO "leases" VALUES('image','ops',1,0.0);
CREATE TABLE moves (
	id INTEGER NOT NULL, 
	release VARCHAR(250) NOT NULL, 
	version INTEGER NOT NULL, 
	source TEXT, 
	target TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	time FLOAT NOT NULL, 
	who TEXT NOT NULL, 
	why TEXT NOT NULL, 
	evidence JSON NOT NULL, 
	token INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT each_version_once UNIQUE (release, version), 
	FOREIGN KEY(release) REFERENCES releases (release)
);
INSERT INTO "moves" VALUES(1,'text-1.1',1,NULL,'registered','step',1760000010.0,'ops','first release','{}',1);
INSERT INTO "moves" VALUES(2,'text-1.1',2,'registered','validated','step',1760000011.0,'ops','gates passed','{}',1);
INSERT INTO "moves" VALUES(3,'text-1.1',3,'validated','champion','direct',1760000012.0,'ops','it won','{}',1);
INSERT INTO "moves" VALUES(4,'text-2.1',1,NULL,'registered','step',1760000013.0,'ops','a better one','{}',1);
INSERT INTO "moves" VALUES(5,'text-2.1',2,'registered','validated','step',1760000014.0,'ops','gates passed','{}',1);
INSERT INTO "moves" VALUES(6,'text-2.1',3,'validated','shadow','step',1760000015.0,'driver','no worse','{}',1);
INSERT INTO "moves" VALUES(7,'text-2.1',4,'shadow','canary_1','step',1760000016.0,'driver','no worse','{}',1);
INSERT INTO "moves" VALUES(8,'text-2.1',5,'canary_1','canary_5','step',1760000017.0,'driver','no worse','{}',1);
INSERT INTO "moves" VALUES(9,'text-2.1',6,'canary_5','canary_25','step',1760000018.0,'driver','no worse','{}',1);
INSERT INTO "moves" VALUES(10,'text-2.1',7,'canary_25','canary_50','step',1760000019.0,'driver','no worse','{}',1);
INSERT INTO "moves" VALUES(11,'text-2.1',8,'canary_50','ab','step',1760000020.0,'driver','no worse','{}',1);
INSERT INTO "moves" VALUES(12,'text-1.1',4,'champion','retired','demotion',1760000021.0,'ops','text-2.1 became champion: it won','{}',1);
INSERT INTO "moves" VALUES(13,'text-2.1',9,'ab','champion','step',1760000022.0,'ops','it won','{}',1);
INSERT INTO "moves" VALUES(14,'image-1.1',1,NULL,'registered','step',1760000024.0,'ops','first release','{}',1);
INSERT INTO "moves" VALUES(15,'image-1.1',2,'registered','validated','step',1760000025.0,'ops','gates passed','{}',1);
INSERT INTO "moves" VALUES(16,'image-1.1',3,'validated','champion','direct',1760000026.0,'ops','it won','{}',1);
INSERT INTO "moves" VALUES(17,'image-2.1',1,NULL,'registered','step',1760000027.0,'ops','a better one','{}',1);
INSERT INTO "moves" VALUES(18,'image-2.1',2,'registered','validated','step',1760000028.0,'ops','gates passed','{}',1);
INSERT INTO "moves" VALUES(19,'image-1.1',4,'champion','retired','demotion',1760000029.0,'ops','image-2.1 became champion: it won','{}',1);
INSERT INTO "moves" VALUES(20,'image-2.1',3,'validated','champion','direct',1760000030.0,'ops','it won','{}',1);
CREATE TABLE releases (
	release VARCHAR(250) NOT NULL, 
	line TEXT NOT NULL, 
	deployment VARCHAR(200) NOT NULL, 
	state TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	since FLOAT NOT NULL, 
	PRIMARY KEY (release), 
	FOREIGN KEY(deployment) REFERENCES deployments (deployment)
);
INSERT INTO "releases" VALUES('text-1.1','text','text-1','retired',4,1760000021.0);
INSERT INTO "releases" VALUES('text-2.1','text','text-2','champion',9,1760000022.0);
INSERT INTO "releases" VALUES('image-1.1','image','image-1','retired',4,1760000029.0);
INSERT INTO "releases" VALUES('image-2.1','image','image-2','champion',3,1760000030.0);
CREATE TABLE tier_answers (
	number INTEGER NOT NULL, 
	task INTEGER NOT NULL, 
	tier TEXT NOT NULL, 
	person VARCHAR(200) NOT NULL, 
	label TEXT NOT NULL, 
	why TEXT NOT NULL, 
	time FLOAT NOT NULL, 
	source VARCHAR(100), 
	stamp VARCHAR(100), 
	ended FLOAT, 
	ended_why TEXT NOT NULL, 
	PRIMARY KEY (number), 
	CONSTRAINT each_edit_once UNIQUE (source, stamp), 
	FOREIGN KEY(task) REFERENCES tier_tasks (task)
);
INSERT INTO "tier_answers" VALUES(1,1,'annotate','1','animal','',1760000033.0,NULL,NULL,NULL,'');
INSERT INTO "tier_answers" VALUES(2,1,'annotate','2','animal','',1760000034.0,NULL,NULL,NULL,'');
INSERT INTO "tier_answers" VALUES(3,2,'annotate','1','food','',1760000035.0,NULL,NULL,NULL,'');
INSERT INTO "tier_answers" VALUES(4,3,'annotate','1','animal','',1760000036.0,NULL,NULL,NULL,'');
INSERT INTO "tier_answers" VALUES(5,3,'annotate','2','animal','',1760000037.0,NULL,NULL,NULL,'');
INSERT INTO "tier_answers" VALUES(6,3,'annotate','3','animal','',1760000038.0,NULL,NULL,NULL,'');
CREATE TABLE tier_moves (
	id INTEGER NOT NULL, 
	task INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	source TEXT, 
	target TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	label TEXT NOT NULL, 
	time FLOAT NOT NULL, 
	who TEXT NOT NULL, 
	why TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT each_task_version_once UNIQUE (task, version), 
	FOREIGN KEY(task) REFERENCES tier_tasks (task)
);
INSERT INTO "tier_moves" VALUES(1,1,1,NULL,'annotate','create','',1760000032.0,'ops','a sample to label');
INSERT INTO "tier_moves" VALUES(2,2,1,NULL,'annotate','create','',1760000032.0,'ops','a sample to label');
INSERT INTO "tier_moves" VALUES(3,3,1,NULL,'annotate','create','',1760000032.0,'ops','a sample to label');
INSERT INTO "tier_moves" VALUES(4,1,4,'annotate','review','submit','',1760000034.0,'2','''animal'' is 97.0 % likely after 2 annotations');
CREATE TABLE tier_projects (
	project VARCHAR(100) NOT NULL, 
	token INTEGER NOT NULL, read_until TEXT DEFAULT '' NOT NULL, chosen_at INTEGER DEFAULT '-1' NOT NULL, outlook TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (project)
);
INSERT INTO "tier_projects" VALUES('atelier-stickers',0,'',-1,'');
CREATE TABLE tier_shown (
	task INTEGER NOT NULL, 
	remote INTEGER NOT NULL, 
	tier TEXT NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (task), 
	FOREIGN KEY(task) REFERENCES tier_tasks (task)
);
CREATE TABLE tier_tasks (
	task INTEGER NOT NULL, 
	project VARCHAR(100) NOT NULL, 
	sample VARCHAR(200) NOT NULL, 
	gold TEXT NOT NULL, 
	state TEXT NOT NULL, 
	label TEXT NOT NULL, 
	version INTEGER NOT NULL, 
	since FLOAT NOT NULL, 
	PRIMARY KEY (task), 
	CONSTRAINT each_sample_once UNIQUE (project, sample), 
	FOREIGN KEY(project) REFERENCES tier_projects (project)
);
INSERT INTO "tier_tasks" VALUES(1,'atelier-stickers','s1','','review','',4,1760000034.0);
INSERT INTO "tier_tasks" VALUES(2,'atelier-stickers','s2','','annotate','',2,1760000035.0);
INSERT INTO "tier_tasks" VALUES(3,'atelier-stickers','g1','animal','annotate','',4,1760000038.0);
CREATE TABLE trials (
	request_id VARCHAR(250) NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	time FLOAT NOT NULL, 
	line TEXT NOT NULL, 
	deployment TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	latency_s FLOAT NOT NULL, 
	PRIMARY KEY (request_id, kind)
);
CREATE INDEX ix_accepted_time ON accepted (time);
CREATE INDEX ix_finished_time ON finished (time);
CREATE INDEX ix_feedback_time ON feedback (time);
CREATE INDEX ix_deployments_time ON deployments (time);
CREATE INDEX ix_feedback_request_id ON feedback (request_id);
CREATE UNIQUE INDEX one_champion ON releases (line) WHERE state IN ('champion');
CREATE UNIQUE INDEX one_on_trial ON releases (line) WHERE state IN ('shadow', 'canary_1', 'canary_5', 'canary_25', 'canary_50', 'ab');
CREATE INDEX ix_trials_time ON trials (time);
CREATE INDEX ix_label_tasks_time ON label_tasks (time);
CREATE INDEX ix_label_answers_task ON label_answers (task);
CREATE INDEX ix_tier_answers_task ON tier_answers (task);
CREATE UNIQUE INDEX one_answer_each ON tier_answers (task, person) WHERE ended IS NULL;
COMMIT;
