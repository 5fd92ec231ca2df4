// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong in a file is told with its line.

use super::*;

/// What is appended to a file that names a unit in its second line, and all that is said about it.
const WRONG_VALUES: &[(&str, &[&str])] = &[
    ("", &[]),
    ("[restart]\nbudget = \"5/1h\"", &[]),
    ("[restart]\nbudget = 5", &["4: restart.budget: a text in quotes is expected, as in \"5/1h\", not a number"]),
    (
        "[restart]\nbudget = \"5\"",
        &["4: restart.budget: \"5\" is not a budget; write attempts and a window, as in \"5/1h\""],
    ),
    (
        "[restart]\nbudget = \"0/1h\"",
        &["4: restart.budget: \"0/1h\": the attempts must be a whole number from 1 to 10000"],
    ),
    (
        "[restart]\nbudget = \"10001/1h\"",
        &["4: restart.budget: \"10001/1h\": the attempts must be a whole number from 1 to 10000"],
    ),
    (
        "[restart]\nbudget = \"99999999999999999999/1h\"",
        &["4: restart.budget: \"99999999999999999999/1h\": the attempts must be a whole number from 1 to 10000"],
    ),
    (
        "[restart]\nbudget = \"5/31d\"",
        &["4: restart.budget: \"5/31d\": the window is out of range, 1s to 30d is allowed"],
    ),
    (
        "[restart]\nbudget = \"5/h\"",
        &["4: restart.budget: \"h\" is not a time span: a number is expected before \"h\""],
    ),
    (
        "[restart]\n\n# A comment.\nbudget = \"-1/1h\"",
        &["6: restart.budget: \"-1/1h\": the attempts must be a whole number from 1 to 10000"],
    ),
    ("[restart]\nback-off = \"10s\"", &[]),
    ("[restart]\nback-off = \"0s\"", &[]),
    ("[restart]\nback-off = 10", &[]),
    (
        "[restart]\nback-off = \"5min..1s\"",
        &["4: restart.back-off: \"5min..1s\": the first pause is longer than the longest one"],
    ),
    (
        "[restart]\nback-off = \"0s..1min\"",
        &["4: restart.back-off: a first pause of 0 never grows; there will be no pause at all"],
    ),
    ("[restart]\nback-off = \"1s..2d\"", &["4: restart.back-off: \"2d\" is out of range, 0 to 1d is allowed"]),
    ("[restart]\nback-off = \"1s-5min\"", &["4: restart.back-off: \"1s-5min\" is not a time span: it is negative"]),
    (
        "[restart]\ngrace = \"5 minuts\"",
        &[
            "4: restart.grace: \"5 minuts\" is not a time span: the unit \"minuts\" is unknown (us, ms, s, min, h, d, w, month and y are known)",
        ],
    ),
    ("[restart]\ngrace = \"0s\"", &["4: restart.grace: \"0s\" is out of range, 1s to 1h is allowed"]),
    ("[restart]\ngrace = -1", &["4: restart.grace: the number is out of range, 1s to 1h is allowed"]),
    (
        "[restart]\ngrace = 1.5",
        &["4: restart.grace: a text in quotes is expected, as in \"30s\", not a decimal number"],
    ),
    (
        "[restart]\ngrace = \"infinity\"",
        &["4: restart.grace: \"infinity\" is not allowed here; write a time span such as \"1min 30s\""],
    ),
    (
        "[restart]\ngrace = \"\\u001b[31m5s\"",
        &["4: restart.grace: control characters are not allowed in \"\\u{1b}[31m5s\""],
    ),
    ("[restart]\nreset-after = 0", &["4: restart.reset-after: \"0\" is out of range, 1s to 7d is allowed"]),
    ("[restart]\nverify = \"25h\"", &["4: restart.verify: \"25h\" is out of range, 0 to 1d is allowed"]),
    (
        "[restart]\non-exhausted = \"explode\"",
        &["4: restart.on-exhausted: \"explode\" is not one of \"quarantine\", \"stop\", \"pause\" and \"next-remedy\""],
    ),
    (
        "[cause.gpu-oom]\nscale = { B = \"x0.5\" }",
        &["4: cause.gpu-oom: B is not declared in [parameters] of this file; without a declaration it is not changed"],
    ),
    (
        "[parameters]\nB = { default = 4, range = [1, 8] }\n[cause.gpu-oom]\nset = { B = 9 }",
        &["6: cause.gpu-oom: B: \"9\" is not a whole number from 1 to 8"],
    ),
    (
        "[parameters]\nB = { range = [1, 8] }",
        &["4: parameters.B: the default is missing, as in { default = 64, range = [1, 512] }"],
    ),
    (
        "[parameters]\nB = { default = 4, rnage = [1, 8] }",
        &["4: parameters.B: \"rnage\" is not one of default, range and choices"],
    ),
    (
        "[parameters]\nWATCHERD_B = { default = 4 }",
        &["4: parameters.WATCHERD_B: \"WATCHERD_B\": names that begin with WATCHERD_ are watcherd's own"],
    ),
    (
        "[cause.gpu-oom]\ntry-next = [{ action = \"hold\", when = 1 }]",
        &["4: cause.gpu-oom.try-next: \"when\" is not one of action, until, set, scale and unset"],
    ),
    (
        "[cause.gpu-oom]\ntry-next = [{ until = \"free(srv) > 1G\" }]",
        &["4: cause.gpu-oom.try-next: until: \"srv\" is not an absolute path"],
    ),
    (
        "[restart]\nthen = [\"./next\"]",
        &["4: restart.then: \"./next\" is neither a full path nor the name of a program"],
    ),
    ("[progress]\ntotal = 0", &["4: progress.total: 0 is not a whole number of 1 or more"]),
    ("[progress]\ntotal = -5", &["4: progress.total: this is not a whole number of 1 or more"]),
    ("[progress]\ntotal = \"100\"", &["4: progress.total: a number is expected; write 100 without the quotes"]),
    ("[progress]\ntotal = 1_000_000", &[]),
    ("[progress]\nnotify = \"yes\"", &["4: progress.notify: true or false is expected, without quotes, not a text"]),
    ("[progress]\nfile = \"/x\"\nstall-after = \"10min\"", &[]),
    (
        "[progress]\nfile = \"x\"\ncount = \"/srv/../etc/*\"\nhttp = \"https://host/\"\njournal = '('",
        &[
            "4: progress.file: \"x\" is not a full path, as in \"/srv/train/status.json\"",
            "5: progress.count: \"/srv/../etc/*\": \"..\" is not allowed",
            "6: progress.http: \"https://host/\" is not an address as in \"http://127.0.0.1:8001/status\"",
            "7: progress.journal: not a valid pattern: unclosed group",
        ],
    ),
    (
        "[progress]\ncommand = \"ls\"\nstall-after = \"sometimes\"\nstalled-when = \"active = 0\"\nstrikes = 0",
        &[
            "4: progress.command: a list of texts is expected, as in [\"/usr/bin/queue-status\", \"--json\"], not a text",
            "5: progress.stall-after: \"adaptive\", \"never\" or a time is expected, 1s to 30d is allowed",
            "6: progress.stalled-when: \"active = 0\": write == to compare",
            "7: progress.strikes: 0 is not a whole number from 1 to 1000",
        ],
    ),
    (
        "[limits]\nmemory = \"8\"\ncpu = \"lots\"\nfor = \"0s\"\n[parameters]\nX = { default = 1 }",
        &[
            "5: limits.cpu: \"lots\" is not a percentage of one processor, as in \"90%\" or \"400%\"",
            "6: limits.for: \"0s\" is out of range, 5s to 1d is allowed",
        ],
    ),
    ("[cause.segfault]\naction = \"hold\"", &[]),
    ("cause.segfault.action = \"hold\"", &["3: worker.cause: unknown key, it has no effect"]),
    (
        "[cause.segfault]\naction = \"reboot\"",
        &[
            "4: cause.segfault.action: \"reboot\" is not one of \"restart\", \"hold\", \"quarantine\", \"stop\" and \"ignore\"",
        ],
    ),
    (
        "[cause.seg-fault]\naction = \"hold\"",
        &["3: cause.seg-fault: unknown cause, it has no effect; did you mean \"segfault\"?"],
    ),
    ("[cause.gremlins]\naction = \"hold\"", &["3: cause.gremlins: unknown cause, it has no effect"]),
    (
        "[cause]\nsegfault = \"hold\"",
        &["4: cause.segfault: a table is expected; write [cause.segfault] and action = \"…\" below it"],
    ),
    (
        "[cause.gpu-oom]\nactoin = \"hold\"\nscale = { BATCH_SIZE = \"x0.5\" }",
        &[
            "4: cause.gpu-oom.actoin: unknown key, it has no effect; did you mean \"action\"?",
            "5: cause.gpu-oom: BATCH_SIZE is not declared in [parameters] of this file; without a declaration it is not changed",
        ],
    ),
    (
        "[restart]\nback_off = \"1s\"",
        &["4: restart.back_off: unknown key, it has no effect; did you mean \"back-off\"?"],
    ),
    ("[restart]\ncolour = 1", &["4: restart.colour: unknown key, it has no effect"]),
    (
        "[restart]\nnotify = true",
        &["4: restart.notify: unknown key, it has no effect; \"notify\" belongs into [worker]"],
    ),
    ("[restrat]\ngrace = 1", &["3: restrat: unknown table, it has no effect; did you mean [restart]?"]),
    ("[manager]\ndry-run = true", &["3: manager: this table belongs into watcherd.toml; it has no effect here"]),
    ("[[restart]]\ngrace = 1", &["3: restart: one table is expected, [restart], not a list"]),
    ("[restart]\n\"a\\nb\" = 1", &["4: restart.a\\nb: unknown key, it has no effect"]),
    ("[restart]\ngrace = ", &["4: not valid TOML: string values must be quoted, expected literal string"]),
    ("[restart]\ngrace = 1\ngrace = 2", &["5: not valid TOML: duplicate key"]),
    ("[restart", &["3: not valid TOML: unclosed table, expected `]`"]),
];

#[test]
fn a_wrong_line_is_told_with_its_number_and_what_is_allowed() {
    for (text, expected) in WRONG_VALUES {
        let root = Root::new(&[("etc/watcherd/workers.d/a.toml", &format!("{UNIT}{text}"))]);
        let loaded = root.load();
        let expected: Vec<String> =
            expected.iter().map(|line| format!("/etc/watcherd/workers.d/a.toml:{line}")).collect();
        assert_eq!(root.complaints(&loaded), expected, "{text}");
        assert_eq!(loaded.policies.layers.len(), usize::from(loaded.errors().count() == 0), "{text}");
    }
}

/// Whole files, and all that is said about them.
const WRONG_FILES: &[(&str, &[&str])] = &[
    ("", &[]),
    ("# Nothing yet.\n", &[]),
    ("\u{feff}[worker]\nunit = \"a\"\n", &[]),
    (
        "[worker]\r\nunit = \"a\"\r\n[restart]\r\ngrace = 0",
        &[":4: restart.grace: \"0\" is out of range, 1s to 1h is allowed"],
    ),
    (
        "[worker]\nafter-success = \"restart\"",
        &[":1: worker: no unit is named; write unit = \"NAME.service\" or units = [\"GLOB\", …]"],
    ),
    ("[restart]\n", &[":1: worker: no unit is named; write unit = \"NAME.service\" or units = [\"GLOB\", …]"]),
    ("worker = 5", &[":1: worker: a table is expected, [worker], not a number"]),
    (
        "grace = \"5s\"\n[worker]\nunit = \"a\"",
        &[":1: grace: unknown key, it has no effect; \"grace\" belongs into [restart]"],
    ),
    ("[worker]\nunits = []", &[":2: worker.units: the list is empty"]),
    ("[worker]\nunits = \"a\"", &[":2: worker.units: a list is expected, as in [\"train@*.service\"], not a text"]),
    (
        "[worker]\nunit = [\"a\"]",
        &[":2: worker.unit: one text in quotes is expected; several units are written as units = [\"…\", \"…\"]"],
    ),
    (
        "[worker]\nunits = [\n  \"a\",\n  \"b c\",\n  7,\n]",
        &[
            ":4: worker.units: \"b c\": ' ' is not allowed in a unit name (letters, digits and \":-_.\\@\" are)",
            ":5: worker.units: a text in quotes is expected, not a number",
        ],
    ),
    ("[worker]\nunit = \"\"", &[":2: worker.unit: \"\": the name is empty"]),
    (
        "[worker]\nunit = \"/etc/passwd\"",
        &[":2: worker.unit: \"/etc/passwd\": the part before \"/\" is not a node name"],
    ),
    (
        "[worker]\nunit = \"foo@.service\"",
        &[":2: worker.unit: \"foo@.service\": it names a template; name an instance, as in worker@1.service"],
    ),
    (
        "[worker]\nunit = \"a.timer\"",
        &[":2: worker.unit: \"a.timer\": a .timer unit cannot be a worker, only a .service can"],
    ),
    (
        "[worker]\nunit = \"*\"",
        &[":2: worker.unit: \"*\" matches every service of the machine, also those that the system itself needs"],
    ),
    (
        "[worker]\nunit = \"a\"\n[restart]\ngrace = \"\u{0}\"",
        &[":4: not valid TOML: the control character 0x00 is not allowed"],
    ),
];

#[test]
fn a_wrong_file_is_told_and_refused_alone() {
    for (text, expected) in WRONG_FILES {
        let root = Root::new(&[
            ("etc/watcherd/workers.d/bad.toml", text),
            ("etc/watcherd/workers.d/good.toml", "[worker]\nunit = \"good\"\n"),
        ]);
        let loaded = root.load();
        let expected: Vec<String> =
            expected.iter().map(|line| format!("/etc/watcherd/workers.d/bad.toml{line}")).collect();
        assert_eq!(root.complaints(&loaded), expected, "{text}");
        assert!(grace_of(&loaded, "good").is_some(), "{text}");
    }
}
