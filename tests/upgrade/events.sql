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
INSERT INTO "accepted" VALUES('00000000000000000000000000000000',1.79600442391888213151e+09,'d9d0c9a30402fe9eb79b49639132998c','text','text-v1','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000001',1.79600442395822286608e+09,'eb56e1cc52a95b1a35cd7c7b74474b6a','text','text-v1','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000002',1.79600442397843742363e+09,'fbd73a6c85a93be2e329f92ed6988e13','text','text-v1','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000003',1.79600442399430775637e+09,'43e03d1ebc3c08205726794ba7ea2143','text','text-v1','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000004',1.796004424022317648e+09,'d9d0c9a30402fe9eb79b49639132998c','text','text-v1','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000005',1.79600442403589129454e+09,'eb56e1cc52a95b1a35cd7c7b74474b6a','text','text-v1','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000006',1.79600442404822778705e+09,'fbd73a6c85a93be2e329f92ed6988e13','text','text-v1','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000007',1.79600442407418942449e+09,'43e03d1ebc3c08205726794ba7ea2143','text','text-v1','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000008',1.79600442409379935267e+09,'d9d0c9a30402fe9eb79b49639132998c','text','text-v1','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('00000000000000000000000000000009',1.79600442412231969834e+09,'eb56e1cc52a95b1a35cd7c7b74474b6a','text','text-v1','atelier-text','text-temperature','treatment',0.5,'{}',1);
INSERT INTO "accepted" VALUES('0000000000000000000000000000000a',1.79600442415196609501e+09,'fbd73a6c85a93be2e329f92ed6988e13','text','text-v1','atelier-text','text-temperature','control',0.5,'{}',1);
INSERT INTO "accepted" VALUES('0000000000000000000000000000000b',1.79600442418221712109e+09,'43e03d1ebc3c08205726794ba7ea2143','text','text-v1','atelier-text','text-temperature','treatment',0.5,'{}',1);
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
INSERT INTO "deployments" VALUES('text-v1','text','6828b37d752d6641d39027ffd5f2286a012a36170ca0c0f6d8c6161d622160d5','atelier-text','1','atelier-text:v1',1.79600442223841071133e+09);
INSERT INTO "deployments" VALUES('image-v1','image','1bb4b389a5fa2ed0da1443c6e6767e4ecbbf28d50cba3fc1f5d052c4e135877c','atelier-image','1','atelier-image:v1',1.796004422618793726e+09);
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
INSERT INTO "experiments" VALUES(1,'text-temperature',1,'running','{"name": "text-temperature", "line": "text", "salt": "text-temperature-1", "variants": {"control": {"weight": 0.5, "temperature": 0.7, "adapter": null, "guidance": null, "steps": null}, "treatment": {"weight": 0.5, "temperature": 0.9, "adapter": null, "guidance": null, "steps": null}}, "alpha": 0.05, "srm_alpha": 0.001, "segment": {}, "share": 1.0, "policy": "fixed", "floor": 0.05, "metric": "like", "dwell_cap_s": 120.0, "min_users": 20, "guardrails": {"slo_s": 5.0, "slow": 0.05, "failed": 0.02, "refused": 0.02}}','{"users": [[0, 10000]], "variants": {"control": [[0, 5000]], "treatment": [[5000, 10000]]}}',1.79600442374649572375e+09,'ops','declared in params.yaml');
CREATE TABLE feedback (
	"key" VARCHAR(300) NOT NULL, 
	request_id VARCHAR(200) NOT NULL, 
	time FLOAT NOT NULL, 
	user_key TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	value FLOAT NOT NULL, received FLOAT DEFAULT '0' NOT NULL, clock TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000000','00000000000000000000000000000000',1.79600442391888213151e+09,'d9d0c9a30402fe9eb79b49639132998c','like',0.0,1.79600442391888213151e+09,'');
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000001','00000000000000000000000000000001',1.79600442395822286608e+09,'eb56e1cc52a95b1a35cd7c7b74474b6a','like',1.0,1.79600442395822286608e+09,'');
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000002','00000000000000000000000000000002',1.79600442397843742363e+09,'fbd73a6c85a93be2e329f92ed6988e13','like',1.0,1.79600442397843742363e+09,'');
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000003','00000000000000000000000000000003',1.79600442399430775637e+09,'43e03d1ebc3c08205726794ba7ea2143','like',0.0,1.79600442399430775637e+09,'');
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000004','00000000000000000000000000000004',1.796004424022317648e+09,'d9d0c9a30402fe9eb79b49639132998c','like',1.0,1.796004424022317648e+09,'');
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000005','00000000000000000000000000000005',1.79600442403589129454e+09,'eb56e1cc52a95b1a35cd7c7b74474b6a','like',1.0,1.79600442403589129454e+09,'');
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000006','00000000000000000000000000000006',1.79600442404822778705e+09,'fbd73a6c85a93be2e329f92ed6988e13','like',0.0,1.79600442404822778705e+09,'');
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000007','00000000000000000000000000000007',1.79600442407418942449e+09,'43e03d1ebc3c08205726794ba7ea2143','like',1.0,1.79600442407418942449e+09,'');
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000008','00000000000000000000000000000008',1.79600442409379935267e+09,'d9d0c9a30402fe9eb79b49639132998c','like',1.0,1.79600442409379935267e+09,'');
INSERT INTO "feedback" VALUES('like:00000000000000000000000000000009','00000000000000000000000000000009',1.79600442412231969834e+09,'eb56e1cc52a95b1a35cd7c7b74474b6a','like',0.0,1.79600442412231969834e+09,'');
INSERT INTO "feedback" VALUES('like:0000000000000000000000000000000a','0000000000000000000000000000000a',1.79600442415196609501e+09,'fbd73a6c85a93be2e329f92ed6988e13','like',1.0,1.79600442415196609501e+09,'');
INSERT INTO "feedback" VALUES('like:0000000000000000000000000000000b','0000000000000000000000000000000b',1.79600442418221712109e+09,'43e03d1ebc3c08205726794ba7ea2143','like',1.0,1.79600442418221712109e+09,'');
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
INSERT INTO "finished" VALUES('00000000000000000000000000000000',1.79600442391888213151e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000001',1.79600442395822286608e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000002',1.79600442397843742363e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000003',1.79600442399430775637e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000004',1.796004424022317648e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000005',1.79600442403589129454e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000006',1.79600442404822778705e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000007',1.79600442407418942449e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000008',1.79600442409379935267e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('00000000000000000000000000000009',1.79600442412231969834e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('0000000000000000000000000000000a',1.79600442415196609501e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
INSERT INTO "finished" VALUES('0000000000000000000000000000000b',1.79600442418221712109e+09,0.2,'ok',200,1,'生日蛋糕','a cake, sticker',5,6,'');
CREATE TABLE label_answers (
	number INTEGER NOT NULL, 
	task VARCHAR(32) NOT NULL, 
	completion TEXT NOT NULL, 
	annotator TEXT NOT NULL, 
	time FLOAT NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(task) REFERENCES label_tasks (task)
);
INSERT INTO "label_answers" VALUES(1,'113c3aa00d87b2c1','a red boat, sticker','ann',1.79600442386626076704e+09);
CREATE TABLE label_tasks (
	task VARCHAR(32) NOT NULL, 
	phrase TEXT NOT NULL, 
	written TEXT NOT NULL, 
	why TEXT NOT NULL, 
	time FLOAT NOT NULL, 
	PRIMARY KEY (task)
);
INSERT INTO "label_tasks" VALUES('113c3aa00d87b2c1','ein rotes Boot','a boat','drift',1.79600442385439229009e+09);
INSERT INTO "label_tasks" VALUES('e7121cc45eb43a14','生日蛋糕','a cake','drift',1.79600442385439229009e+09);
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
INSERT INTO "moves" VALUES(1,'text-v1.1',1,NULL,'registered','step',1.79600442252094268796e+09,'ops','the first release','{}',1);
INSERT INTO "moves" VALUES(2,'text-v1.1',2,'registered','validated','step',1.79600442254000067709e+09,'ops','the first release','{}',1);
INSERT INTO "moves" VALUES(3,'text-v1.1',3,'validated','champion','direct',1.79600442256449174881e+09,'ops','the first release','{}',1);
INSERT INTO "moves" VALUES(4,'image-v1.1',1,NULL,'registered','step',1.79600442275650286675e+09,'ops','the first release','{}',1);
INSERT INTO "moves" VALUES(5,'image-v1.1',2,'registered','validated','step',1.79600442277191090587e+09,'ops','the first release','{}',1);
INSERT INTO "moves" VALUES(6,'image-v1.1',3,'validated','champion','direct',1.79600442278419113162e+09,'ops','the first release','{}',1);
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
INSERT INTO "releases" VALUES('text-v1.1','text','text-v1','champion',3,1.79600442256449174881e+09);
INSERT INTO "releases" VALUES('image-v1.1','image','image-v1','champion',3,1.79600442278419113162e+09);
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
INSERT INTO "tier_answers" VALUES(1,1,'annotate','1','animal','',1.79600442379348158839e+09,NULL,NULL,NULL,'');
INSERT INTO "tier_answers" VALUES(2,1,'annotate','2','animal','',1.79600442382306742673e+09,NULL,NULL,NULL,'');
INSERT INTO "tier_answers" VALUES(3,2,'annotate','1','animal','',1.79600442383888411518e+09,NULL,NULL,NULL,'');
INSERT INTO "tier_answers" VALUES(4,3,'annotate','1','animal','',1.79600442384683203701e+09,NULL,NULL,NULL,'');
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
INSERT INTO "tier_moves" VALUES(1,1,1,NULL,'annotate','create','',1.79600442378000664704e+09,'ops','a sample to label');
INSERT INTO "tier_moves" VALUES(2,2,1,NULL,'annotate','create','',1.79600442378000664704e+09,'ops','a sample to label');
INSERT INTO "tier_moves" VALUES(3,3,1,NULL,'annotate','create','',1.79600442378000664704e+09,'ops','a sample to label');
INSERT INTO "tier_moves" VALUES(4,1,4,'annotate','review','submit','',1.79600442382306742673e+09,'2','''animal'' is 94.1 % likely after 2 annotations');
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
INSERT INTO "tier_tasks" VALUES(1,'atelier-stickers','s1','','review','',4,1.79600442382306742673e+09);
INSERT INTO "tier_tasks" VALUES(2,'atelier-stickers','s2','','annotate','',2,1.79600442383888411518e+09);
INSERT INTO "tier_tasks" VALUES(3,'atelier-stickers','g1','animal','annotate','',2,1.79600442384683203701e+09);
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
