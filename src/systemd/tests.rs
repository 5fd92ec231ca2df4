// SPDX-License-Identifier: MIT OR Apache-2.0
//! Against a real service manager, by hand: `$WATCHERD_TEST_BUS` is its D-Bus address, `$WATCHERD_TEST_ENTER` a command
//! such as `nsenter -t PID -a` that runs programs where it lives.

use super::jobs::Jobs;
use super::watch::{WatchError, follow};
use super::*;
use crate::engine::action::{Freezer, Interest, Start};
use crate::engine::event::{Active, Definition, Event, Exit, Load, Outcome, UnitFacts, UnitResult};
use crate::engine::ids::WorkerName;
use crate::engine::policy::UnitPattern;
use std::process::Command;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

const DEADLINE: Duration = Duration::from_secs(20);

struct Bench {
    jobs: Jobs,
    interest: watch::Sender<Interest>,
    events: mpsc::Receiver<Event>,
    watching: JoinHandle<Result<(), WatchError>>,
    began: Instant,
}

impl Bench {
    async fn open(names: &[&str], globs: &[&str]) -> Bench {
        let address = Address::At(std::env::var("WATCHERD_TEST_BUS").expect("$WATCHERD_TEST_BUS is set"));
        let jobs = Jobs::connect(&address).await.expect("the bus is there");
        let (interest, wanted) = watch::channel(interest(names, globs));
        let (sender, events) = mpsc::channel(4096);
        let followed = jobs.clone();
        let watching = tokio::spawn(async move { follow(&address, followed, wanted, sender).await });
        Bench { jobs, interest, events, watching, began: Instant::now() }
    }

    async fn next(&mut self) -> Event {
        let event = timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("an event");
        println!("    {:>9.1?} {}", self.began.elapsed(), shown(&event));
        event
    }

    async fn listed(&mut self) -> Vec<(WorkerName, UnitFacts)> {
        loop {
            if let Event::Listed(_, rows) = self.next().await {
                return rows;
            }
        }
    }

    /// Reads until the unit is in such a state.
    async fn until(&mut self, name: &str, wanted: impl Fn(&UnitFacts) -> bool) -> UnitFacts {
        loop {
            match self.next().await {
                Event::Unit(unit, facts) if unit.as_str() == name && wanted(&facts) => return facts,
                _ => {}
            }
        }
    }

    async fn until_gone(&mut self, name: &str) {
        while !matches!(self.next().await, Event::Gone(unit) if unit.as_str() == name) {}
    }

    /// Prints what comes until nothing has come for a while.
    async fn quiet(&mut self) -> usize {
        let mut count = 0;
        while let Ok(Some(event)) = timeout(Duration::from_millis(400), self.events.recv()).await {
            println!("    {:>9.1?} {}", self.began.elapsed(), shown(&event));
            count += 1;
        }
        count
    }

    fn step(&mut self, what: &str) {
        println!("  == {what}");
        self.began = Instant::now();
    }
}

fn shown(event: &Event) -> String {
    match event {
        Event::Unit(name, facts) => format!("{name} {}", brief(facts)),
        Event::Listed(_, rows) => {
            let rows: Vec<_> =
                rows.iter().map(|(name, facts)| format!("\n          {name} {}", brief(facts))).collect();
            format!("Listed{}", rows.join(""))
        }
        other => format!("{other:?}"),
    }
}

fn brief(facts: &UnitFacts) -> String {
    let invocation = facts.invocation.map_or("-".to_owned(), |id| id.to_string()[..4].to_owned());
    format!(
        "{:?} {:?}/{} job={} inv={invocation} main={} end={:?},{:?},pid={},ended={} n={} {}{}traits={}",
        facts.load,
        facts.active,
        facts.sub,
        facts.job,
        facts.main_pid,
        facts.end.result,
        facts.end.exit,
        facts.end.pid,
        facts.end.ended.0 != 0,
        facts.restarts,
        if facts.frozen { "FROZEN " } else { "" },
        if facts.status_text.is_empty() { String::new() } else { format!("{:?} ", facts.status_text) },
        if facts.traits.start_limit_burst != 0 { "y" } else { "-" },
    )
}

fn interest(names: &[&str], globs: &[&str]) -> Interest {
    Interest {
        names: names.iter().map(|name| self::name(name)).collect(),
        globs: globs.iter().map(|glob| UnitPattern::parse(glob).expect("a glob")).collect(),
    }
}

fn name(text: &str) -> WorkerName {
    WorkerName::parse(text).expect("a name")
}

async fn enter(command: &str) -> String {
    let enter = std::env::var("WATCHERD_TEST_ENTER").expect("$WATCHERD_TEST_ENTER is set");
    let words: Vec<String> = enter.split_whitespace().map(str::to_owned).collect();
    let script = command.to_owned();
    let run = move || {
        let mut run = Command::new(&words[0]);
        run.args(&words[1..]).args(["sh", "-c", &script]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        run.output().expect("the command runs")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("it does not panic");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

async fn unit(name: &str, lines: &str) {
    enter(&format!("printf '%s\\n' '[Service]' {lines} > /etc/systemd/system/{name}")).await;
}

fn plain() -> Start {
    Start {
        run: "r1".into(),
        definition: None,
        restart: false,
        reset_failed: true,
        thaw: false,
        grace: Duration::from_secs(5),
        sweep: None,
        exports: None,
        tends_checkpoints: false,
    }
}

fn recovery() -> Start {
    Start { restart: true, ..plain() }
}

fn made(argv: &[&str], properties: &[(&str, &str)]) -> Start {
    let definition = Definition {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        properties: properties.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    };
    Start { definition: Some(Arc::new(definition)), restart: true, ..plain() }
}

#[tokio::test]
#[ignore = "needs a service manager"]
async fn units_of_the_admin() {
    unit("wt-plain.service", "'ExecStart=/bin/sleep 1000'").await;
    unit("wt-always.service", "'ExecStart=/bin/sleep 1000' Restart=always RestartSec=2").await;
    unit("wt-rude.service", r#"'ExecStart=/bin/sh -c "trap \"exit 3\" TERM; while :; do sleep 0.05; done"'"#).await;
    unit("wt-clean.service", "'ExecStart=/bin/sleep 0.3'").await;
    unit("wt-once.service", "Type=oneshot 'ExecStart=/bin/sleep 0.3'").await;
    unit(
        "wt-chatty.service",
        r#"NotifyAccess=all 'ExecStart=/bin/sh -c "for i in `seq 60`; do systemd-notify STATUS=$i; done; sleep 100"'"#,
    )
    .await;
    enter("ln -sf /dev/null /etc/systemd/system/wt-masked.service; systemctl daemon-reload").await;

    let names = ["wt-plain", "wt-masked", "wt-missing", "wt-rude"];
    let mut bench = Bench::open(&names, &["wt-*.service"]).await;
    bench.step("list");
    let rows = bench.listed().await;
    let load = |wanted: &str| rows.iter().find(|(name, _)| name.as_str() == wanted).map(|(_, facts)| facts.load);
    assert_eq!(load("wt-plain.service"), Some(Load::Loaded));
    assert_eq!(load("wt-masked.service"), Some(Load::Masked));
    assert_eq!(load("wt-missing.service"), Some(Load::NotFound));
    bench.quiet().await;

    let jobs = bench.jobs.clone();
    bench.step("start");
    assert_eq!(jobs.start(&name("wt-plain"), &plain(), DEADLINE).await, Outcome::Ok);
    let facts = bench.until("wt-plain.service", |facts| facts.traits.start_limit_burst != 0).await;
    assert_eq!(facts.active, Active::Active);
    bench.quiet().await;

    bench.step("crash with Restart=no");
    assert_eq!(jobs.kill(&name("wt-plain"), 9).await, Outcome::Ok);
    let facts = bench.until("wt-plain.service", |facts| facts.active == Active::Failed).await;
    assert_eq!((facts.end.result, facts.end.exit), (UnitResult::Signal, Exit::Killed(9)));
    bench.quiet().await;

    bench.step("recovery by ResetFailed and RestartUnit");
    let began = Instant::now();
    assert_eq!(jobs.start(&name("wt-plain"), &recovery(), DEADLINE).await, Outcome::Ok);
    println!("    job done after {:?}", began.elapsed());
    bench.until("wt-plain.service", |facts| facts.active == Active::Active).await;
    bench.quiet().await;

    bench.step("crash with Restart=always, recovered by us");
    assert_eq!(jobs.start(&name("wt-always"), &plain(), DEADLINE).await, Outcome::Ok);
    bench.quiet().await;
    enter("systemctl kill -s SEGV wt-always").await;
    bench.until("wt-always.service", |facts| facts.waits_for_own_restart()).await;
    let began = Instant::now();
    assert_eq!(jobs.start(&name("wt-always"), &recovery(), DEADLINE).await, Outcome::Ok);
    println!("    job done after {:?}", began.elapsed());
    bench.quiet().await;

    bench.step("crash with Restart=always, recovered by systemd");
    enter("systemctl kill -s KILL wt-always; sleep 2.5").await;
    bench.quiet().await;

    bench.step("crash with Restart=always, held by a stop");
    enter("systemctl kill -s KILL wt-always").await;
    bench.until("wt-always.service", |facts| facts.waits_for_own_restart()).await;
    assert_eq!(jobs.stop(&name("wt-always"), DEADLINE).await, Outcome::Ok);
    bench.quiet().await;

    bench.step("systemctl restart");
    enter("systemctl restart wt-plain").await;
    bench.quiet().await;

    bench.step("systemctl stop");
    enter("systemctl stop wt-plain").await;
    bench.quiet().await;

    bench.step("stop of a worker that exits with 3 on SIGTERM");
    assert_eq!(jobs.start(&name("wt-rude"), &plain(), DEADLINE).await, Outcome::Ok);
    bench.quiet().await;
    println!("    -- stop");
    assert_eq!(jobs.stop(&name("wt-rude"), DEADLINE).await, Outcome::Ok);
    bench.quiet().await;

    bench.step("clean exit");
    assert_eq!(jobs.start(&name("wt-clean"), &plain(), DEADLINE).await, Outcome::Ok);
    bench.quiet().await;
    bench.quiet().await;

    bench.step("oneshot");
    assert_eq!(jobs.start(&name("wt-once"), &plain(), Duration::from_millis(50)).await, Outcome::TimedOut);
    assert_eq!(jobs.start(&name("wt-once"), &plain(), DEADLINE).await, Outcome::Ok);
    bench.quiet().await;

    bench.step("60 STATUS= texts");
    assert_eq!(jobs.start(&name("wt-chatty"), &plain(), DEADLINE).await, Outcome::Ok);
    bench.until("wt-chatty.service", |facts| facts.status_text == "60").await;
    enter("systemctl stop wt-chatty").await;
    bench.quiet().await;

    bench.step("what cannot be started");
    println!("    {:?}", jobs.start(&name("wt-masked"), &plain(), DEADLINE).await);
    println!("    {:?}", jobs.start(&name("wt-missing"), &plain(), DEADLINE).await);
    assert!(matches!(jobs.start(&name("wt-masked"), &recovery(), DEADLINE).await, Outcome::Failed(_)));
    assert_eq!(jobs.stop(&name("wt-missing"), DEADLINE).await, Outcome::Ok);
    println!("    kill {:?}", jobs.kill(&name("wt-missing"), 9).await);
    bench.quiet().await;

    bench.step("freeze, restart while frozen");
    assert_eq!(jobs.start(&name("wt-plain"), &plain(), DEADLINE).await, Outcome::Ok);
    assert_eq!(jobs.freeze(&name("wt-plain"), Freezer::Cgroup).await, Outcome::Ok);
    bench.until("wt-plain.service", |facts| facts.frozen).await;
    assert_eq!(jobs.thaw(&name("wt-plain"), Freezer::Cgroup).await, Outcome::Ok);
    bench.until("wt-plain.service", |facts| !facts.frozen).await;
    assert_eq!(jobs.freeze(&name("wt-plain"), Freezer::Cgroup).await, Outcome::Ok);
    assert_eq!(jobs.start(&name("wt-plain"), &Start { thaw: true, ..recovery() }, DEADLINE).await, Outcome::Ok);
    assert_eq!(jobs.freeze(&name("wt-plain"), Freezer::Cgroup).await, Outcome::Ok);
    assert_eq!(jobs.stop(&name("wt-plain"), DEADLINE).await, Outcome::Ok);
    bench.quiet().await;
    println!("    SIGSTOP {:?}", jobs.freeze(&name("wt-always"), Freezer::Signal).await);

    bench.step("interest grows and shrinks");
    bench.interest.send_replace(interest(&["wt-plain", "wt-new"], &[]));
    let rows = bench.listed().await;
    assert_eq!(rows.len(), 2);
    bench.interest.send_replace(interest(&["wt-plain"], &["wt-*.service"]));
    bench.listed().await;
    bench.interest.send_replace(interest(&[], &[]));
    assert!(bench.listed().await.is_empty());
    bench.quiet().await;
    enter("systemctl stop 'wt-*'; rm /etc/systemd/system/wt-*; systemctl daemon-reload").await;
    assert_eq!(bench.quiet().await, 1);
    assert!(!bench.watching.is_finished());
}

#[tokio::test]
#[ignore = "needs a service manager"]
async fn reload_reexec_and_the_end() {
    unit("wr-a.service", "'ExecStart=/bin/sleep 1000'").await;
    unit("wr-b.service", "'ExecStart=/bin/sleep 1000' Restart=always RestartSec=1").await;
    enter("systemctl daemon-reload; systemctl start wr-a wr-b").await;
    let mut bench = Bench::open(&["wr-a", "wr-b", "wr-c"], &[]).await;
    bench.step("list");
    bench.listed().await;
    bench.quiet().await;
    bench.step("daemon-reload; wr-b loses Restart=");
    unit("wr-b.service", "'ExecStart=/bin/sleep 1000'").await;
    enter("systemctl daemon-reload").await;
    let rows = bench.listed().await;
    assert!(rows.iter().all(|(_, facts)| !facts.traits.restarts_itself));
    bench.quiet().await;
    bench.step("daemon-reexec");
    enter("systemctl daemon-reexec").await;
    bench.listed().await;
    bench.quiet().await;
    bench.step("crash after the reexec");
    enter("systemctl kill -s KILL wr-a").await;
    bench.until("wr-a.service", |facts| facts.active == Active::Failed).await;
    bench.step("a job that ends while systemd is executed anew");
    let jobs = bench.jobs.clone();
    let starting = tokio::spawn(async move { jobs.start(&name("wr-a"), &recovery(), DEADLINE).await });
    enter("systemctl daemon-reexec").await;
    println!("    {:?}", starting.await);
    bench.quiet().await;
    bench.step("crash in the middle of a daemon-reload");
    enter("systemctl daemon-reload & systemctl kill -s KILL wr-a; wait").await;
    bench.until("wr-a.service", |facts| facts.active == Active::Failed).await;
    bench.quiet().await;
    bench.step("the bus ends");
    enter(
        "rm /etc/systemd/system/wr-*; systemctl daemon-reload; systemctl stop wr-a wr-b; systemctl kill -s KILL dbus",
    )
    .await;
    bench.quiet().await;
    let ended = timeout(DEADLINE, bench.watching).await.expect("it ends").expect("it does not panic");
    assert!(matches!(ended, Err(WatchError::BusLost)));
}

#[tokio::test]
#[ignore = "needs a service manager"]
async fn units_that_are_made() {
    let mut bench = Bench::open(&["wm-a", "wm-b", "wm-unit"], &[]).await;
    bench.step("list");
    bench.listed().await;
    bench.quiet().await;
    let jobs = bench.jobs.clone();
    bench.step("make, crash, make again");
    let sleep = made(&["/bin/sh", "-c", "echo $0 $HOME '$X;y' %n; exec sleep 1000"], &[("Environment", "A=1 'B=2 3'")]);
    assert_eq!(jobs.start(&name("wm-a"), &sleep, DEADLINE).await, Outcome::Ok);
    let facts = bench.until("wm-a.service", |facts| facts.traits.transient && facts.active == Active::Active).await;
    assert_eq!(facts.active, Active::Active);
    bench.quiet().await;
    for round in 0..5 {
        println!("    -- crash {round}");
        assert_eq!(jobs.kill(&name("wm-a"), 9).await, Outcome::Ok);
        bench.until("wm-a.service", |facts| facts.active == Active::Failed).await;
        if round == 2 {
            enter("systemctl daemon-reload").await;
            bench.quiet().await;
        }
        let began = Instant::now();
        assert_eq!(jobs.start(&name("wm-a"), &sleep, DEADLINE).await, Outcome::Ok);
        println!("    job done after {:?}", began.elapsed());
        bench.until("wm-a.service", |facts| facts.active == Active::Active).await;
        bench.quiet().await;
    }
    println!("{}", enter("journalctl -u wm-a -o cat -n 6; systemctl show wm-a -p Environment -p LogExtraFields -p Slice -p Type -p CollectMode").await);
    bench.step("restart while it runs");
    assert_eq!(jobs.start(&name("wm-a"), &sleep, DEADLINE).await, Outcome::Ok);
    bench.quiet().await;
    println!("    {:?}", jobs.start(&name("wm-a"), &Start { restart: false, ..sleep.clone() }, DEADLINE).await);
    bench.step("stop");
    assert_eq!(jobs.stop(&name("wm-a"), DEADLINE).await, Outcome::Ok);
    bench.until_gone("wm-a.service").await;
    bench.quiet().await;
    bench.step("clean exit");
    assert_eq!(jobs.start(&name("wm-b"), &made(&["/bin/sleep", "0.2"], &[]), DEADLINE).await, Outcome::Ok);
    bench.until_gone("wm-b.service").await;
    bench.quiet().await;
    bench.step("no such program");
    println!("    {:?}", jobs.start(&name("wm-b"), &made(&["/bin/nothing"], &[]), DEADLINE).await);
    bench.quiet().await;
    enter("systemctl reset-failed wm-b").await;
    bench.quiet().await;
    bench.step("a unit file of that name exists");
    unit("wm-unit.service", "'ExecStart=/bin/sleep 1000'").await;
    enter("systemctl daemon-reload").await;
    println!("    {:?}", jobs.start(&name("wm-unit"), &sleep, DEADLINE).await);
    enter("rm /etc/systemd/system/wm-unit.service; systemctl daemon-reload").await;
    bench.quiet().await;
}

#[tokio::test]
#[ignore = "needs a service manager"]
async fn commands_run_in_a_sandbox_and_are_no_workers() {
    use super::jobs::command::{Command, Sandbox};
    let bench = Bench::open(&[], &["*"]).await;
    let jobs = bench.jobs.clone();
    let events = tokio::spawn(async move {
        let mut bench = bench;
        while let Some(event) = bench.events.recv().await {
            if let Event::Unit(name, _) = event {
                assert!(!super::jobs::command::is_ours(name.as_str()), "{name}");
            }
        }
    });
    let run = |script: &str| {
        let argv = ["/bin/sh", "-c", script].map(Arc::from).to_vec();
        let command = Command { worker: name("w"), index: 0, argv, sandbox: Sandbox::System };
        let jobs = jobs.clone();
        async move { jobs.run(&command).await.map(|printed| String::from_utf8_lossy(&printed).into_owned()) }
    };
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(run("echo step=1; echo two >&2").await.as_deref(), Ok("step=1\n"));
    }
    println!("    ten runs: {:?}", began.elapsed());
    assert_ne!(run("id -u").await.as_deref(), Ok("0\n"));
    for script in ["exit 3", "echo x > /etc/x", "echo x > /var/x", "head -c 9999999 /dev/zero", "kill -9 $$"] {
        println!("    {script}: {:?}", run(script).await.expect_err(script));
    }
    assert_eq!(run("(sleep 1000 &) ; echo 7").await.as_deref(), Ok("7\n"));
    println!("    sleep 100: {:?}", run("sleep 100").await.expect_err("it takes too long"));
    let first = tokio::spawn(run("sleep 20"));
    tokio::task::yield_now().await;
    while enter("systemctl list-units -q --no-legend 'watcherd-progress-*'").await.is_empty() {}
    assert_eq!(run("echo 8").await.as_deref(), Ok("8\n"), "the one before makes room");
    println!("    replaced: {:?}", first.await.expect("it ends"));
    assert_eq!(enter("systemctl list-units -q --all --no-legend 'watcherd-progress-*'").await.trim(), "");
    events.abort();
}

#[tokio::test]
#[ignore = "needs a service manager"]
async fn every_property_is_taken() {
    let bench = Bench::open(&["wp-a"], &[]).await;
    let lines: &[(&str, &str)] = &[
        ("Description", "a b"),
        ("Documentation", "man:x(1) https://example.org"),
        ("Wants", "wx.service"),
        ("After", "wx.service"),
        ("PartOf", "wx.service"),
        ("Conflicts", "wy.service"),
        ("OnFailure", "wz@x.service"),
        ("Type", "notify"),
        ("Type", "idle"),
        ("Type", "exec"),
        ("ExitType", "main"),
        ("RemainAfterExit", "no"),
        ("SuccessExitStatus", "3 SIGTERM"),
        ("NotifyAccess", "all"),
        ("FileDescriptorStoreMax", "4"),
        ("ExecCondition", "/bin/true"),
        ("ExecStartPre", "-/bin/false x"),
        ("ExecStartPost", "/bin/sh -c 'exit 0'"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("ExecStop", "/bin/true"),
        ("ExecStopPost", "/bin/true"),
        ("TimeoutSec", "20"),
        ("TimeoutAbortSec", "9"),
        ("RuntimeMaxSec", "1h"),
        ("RuntimeRandomizedExtraSec", "1s"),
        ("WatchdogSec", "1min"),
        ("WatchdogSignal", "SIGABRT"),
        ("KillMode", "mixed"),
        ("KillSignal", "INT"),
        ("RestartKillSignal", "15"),
        ("FinalKillSignal", "9"),
        ("SendSIGKILL", "yes"),
        ("SendSIGHUP", "no"),
        ("OOMPolicy", "stop"),
        ("Slice", "wp.slice"),
        ("Delegate", "no"),
        ("CPUAccounting", "yes"),
        ("MemoryAccounting", "yes"),
        ("IOAccounting", "no"),
        ("TasksAccounting", "yes"),
        ("MemoryMin", "1M"),
        ("MemoryLow", "1M"),
        ("MemoryHigh", "50%"),
        ("MemoryMax", "80%"),
        ("MemorySwapMax", "infinity"),
        ("MemoryMax", "4G"),
        ("TasksMax", "50%"),
        ("TasksMax", "100"),
        ("CPUWeight", "50"),
        ("CPUWeight", "idle"),
        ("StartupCPUWeight", "20"),
        ("CPUQuota", "150%"),
        ("CPUQuotaPeriodSec", "100ms"),
        ("AllowedCPUs", "0-1"),
        ("AllowedMemoryNodes", "0"),
        ("IOWeight", "50"),
        ("StartupIOWeight", "50"),
        ("DevicePolicy", "auto"),
        ("DeviceAllow", "/dev/null rw"),
        ("ManagedOOMSwap", "auto"),
        ("ManagedOOMMemoryPressure", "auto"),
        ("ManagedOOMPreference", "none"),
        ("User", "root"),
        ("Group", "root"),
        ("SupplementaryGroups", "adm"),
        ("UMask", "0027"),
        ("WorkingDirectory", "-/nowhere"),
        ("WorkingDirectory", "~"),
        ("Environment", "A=1 'B=2 3'"),
        ("EnvironmentFile", "-/nowhere"),
        ("PassEnvironment", "X"),
        ("UnsetEnvironment", "Y"),
        ("LoadCredential", "host:/etc/hostname"),
        ("Nice", "5"),
        ("OOMScoreAdjust", "100"),
        ("CPUAffinity", "0-1"),
        ("CPUSchedulingPolicy", "batch"),
        ("CPUSchedulingPriority", "0"),
        ("IOSchedulingClass", "idle"),
        ("IOSchedulingPriority", "4"),
        ("StandardInput", "null"),
        ("StandardInput", "file:/etc/hostname"),
        ("StandardOutput", "append:/tmp/wp"),
        ("StandardError", "inherit"),
        ("StandardError", "truncate:/tmp/wp2"),
        ("StandardOutput", "journal"),
        ("SyslogIdentifier", "wp"),
        ("LogExtraFields", "A=1 'B=2 3'"),
        ("LogLevelMax", "info"),
        ("LogRateLimitIntervalSec", "1s"),
        ("LogRateLimitBurst", "100"),
        ("LimitCPU", "1h"),
        ("LimitFSIZE", "1G"),
        ("LimitDATA", "infinity"),
        ("LimitSTACK", "8M"),
        ("LimitCORE", "0:1G"),
        ("LimitRSS", "1G"),
        ("LimitNOFILE", "1024:2048"),
        ("LimitAS", "8G"),
        ("LimitNPROC", "1000"),
        ("LimitMEMLOCK", "1M"),
        ("LimitLOCKS", "100"),
        ("LimitSIGPENDING", "100"),
        ("LimitMSGQUEUE", "1M"),
        ("LimitRTPRIO", "0"),
        ("LimitRTTIME", "1s"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "tmpfs"),
        ("ProtectProc", "default"),
        ("ProcSubset", "all"),
        ("PrivateTmp", "yes"),
        ("PrivateNetwork", "yes"),
        ("PrivateDevices", "no"),
        ("PrivateUsers", "no"),
        ("PrivateIPC", "yes"),
        ("PrivateMounts", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectControlGroups", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectHostname", "no"),
        ("RestrictRealtime", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("LockPersonality", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RemoveIPC", "yes"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET"),
        ("SystemCallFilter", "~@mount"),
        ("ReadWritePaths", "/tmp"),
        ("ReadOnlyPaths", "-/srv"),
        ("InaccessiblePaths", "-/nowhere"),
        ("RuntimeDirectory", "wp"),
        ("StateDirectory", "wp"),
        ("CacheDirectory", "wp"),
        ("LogsDirectory", "wp"),
        ("ConfigurationDirectory", "wp"),
        ("RuntimeDirectoryMode", "0700"),
        ("StateDirectoryMode", "0700"),
        ("RuntimeDirectoryPreserve", "no"),
        ("KeyringMode", "private"),
        ("RequiresMountsFor", "/tmp"),
        ("PropagatesStopTo", "wx.service"),
        ("Upholds", "wx.service"),
        ("OnSuccess", "wx.service"),
        ("Before", "wx.service"),
        ("DynamicUser", "yes"),
        ("RootDirectory", "/"),
        ("LogNamespace", "wp"),
        ("LoadCredentialEncrypted", "x:/nowhere"),
    ];
    let mut refused = Vec::new();
    for line in lines {
        let made = made(&["/bin/true"], std::slice::from_ref(line));
        match timeout(Duration::from_secs(8), bench.jobs.start(&name("wp-a"), &made, Duration::from_secs(3))).await {
            Ok(Outcome::Failed(why)) if why.contains("refused") || !why.contains("the job ended") => {
                refused.push(format!("{line:?}: {why}"));
            }
            Ok(Outcome::Ok) => {}
            other => println!("    {line:?} {other:?}"),
        }
        bench.jobs.stop(&name("wp-a"), Duration::from_secs(5)).await;
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[tokio::test]
#[ignore = "needs a service manager"]
async fn time_from_crash_to_running_again() {
    for (unit_name, lines) in [
        ("ws-own.service", "'ExecStart=/bin/sleep 1000' Restart=always RestartSec=0"),
        ("ws-reset.service", "'ExecStart=/bin/sleep 1000'"),
        ("ws-bare.service", "'ExecStart=/bin/sleep 1000'"),
        ("ws-both.service", "'ExecStart=/bin/sleep 1000' Restart=always RestartSec=5"),
    ] {
        unit(unit_name, &format!("{lines} '[Unit]' StartLimitIntervalSec=0")).await;
    }
    enter("systemctl daemon-reload").await;
    let kinds = ["ws-own", "ws-reset", "ws-bare", "ws-both", "ws-made"];
    let mut bench = Bench::open(&kinds, &[]).await;
    let sleep = Start { restart: true, ..made(&["/bin/sleep", "1000"], &[]) };
    let start_of = |kind: &str| match kind {
        "ws-reset" => recovery(),
        "ws-made" => sleep.clone(),
        _ => Start { reset_failed: false, ..recovery() },
    };
    for kind in kinds {
        assert_eq!(bench.jobs.start(&name(kind), &start_of(kind), DEADLINE).await, Outcome::Ok);
    }
    bench.quiet().await;
    let mut taken = vec![Vec::new(); kinds.len()];
    for _ in 0..40 {
        for (kind, taken) in kinds.iter().zip(&mut taken) {
            bench.jobs.kill(&name(kind), 9).await;
            let mut ended = None;
            loop {
                let Event::Unit(unit, facts) = bench.events.recv().await.expect("an event") else { continue };
                if unit != name(kind) {
                    continue;
                }
                if facts.active == Active::Failed && ended.is_none() {
                    ended = Some(facts.end.ended);
                    if *kind != "ws-own" {
                        let (jobs, start, unit) = (bench.jobs.clone(), start_of(kind), unit.clone());
                        tokio::spawn(async move { jobs.start(&unit, &start, DEADLINE).await });
                    }
                }
                if let Some(ended) = ended
                    && facts.active == Active::Active
                    && facts.job == 0
                {
                    taken.push(facts.end.started.since(ended));
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for (kind, mut taken) in kinds.iter().zip(taken) {
        taken.sort();
        println!("  {kind}: median {:?}, 90 % {:?}", taken[taken.len() / 2], taken[taken.len() * 9 / 10]);
    }
    enter("systemctl stop 'ws-*'; rm /etc/systemd/system/ws-*; systemctl daemon-reload").await;
}

#[tokio::test]
#[ignore = "needs a service manager, and ends it"]
async fn the_end_is_announced_before_the_units_stop() {
    unit("we-a.service", "'ExecStart=/bin/sleep 1000'").await;
    enter("systemctl daemon-reload; systemctl start we-a").await;
    let mut bench = Bench::open(&["we-a"], &[]).await;
    bench.listed().await;
    enter("rm /etc/systemd/system/we-a.service; systemctl poweroff").await;
    assert_eq!(bench.next().await, Event::HostStopping(true));
    let ended = timeout(DEADLINE, bench.watching).await.expect("it ends").expect("it does not panic");
    assert!(matches!(ended, Err(WatchError::BusLost)));
}
