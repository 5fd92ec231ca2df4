// SPDX-License-Identifier: MIT OR Apache-2.0
use super::super::http::tests::{says, server};
use super::*;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use tempfile::TempDir;
use tokio::time::timeout;

/// Everything that is waited for must come by then, also on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A follower, and what it told last of each worker.
struct Scene {
    follower: Follower,
    directory: TempDir,
    told: BTreeMap<String, String>,
    events: usize,
}

fn words(read: Result<Reading, String>) -> String {
    let reading = match read {
        Ok(reading) => reading,
        Err(why) => return format!("! {why}"),
    };
    let words: Vec<_> = reading.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.join(" ")
}

impl Scene {
    fn new() -> Scene {
        let (follower, directory) = (Follower::start().expect("it starts"), tempfile::tempdir().expect("a directory"));
        Scene { follower, directory, told: BTreeMap::new(), events: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("it can be written");
    }

    fn replace(&self, name: &str, text: &str) {
        self.write(".new", text);
        fs::rename(self.path(".new"), self.path(name)).expect("it can be renamed");
    }

    fn follow(&self, worker: &str, probes: Vec<Probe>, every: Duration) {
        let sources = Sources { probes, every, ..Sources::default() };
        self.follower.follow(WorkerName::parse(worker).expect("a name"), Arc::new(sources));
    }

    fn follow_file(&self, worker: &str, name: &str) {
        let path = self.path(name).display().to_string();
        self.follow(worker, vec![Probe::File(path.into())], Duration::from_secs(3600));
    }

    async fn hear(&mut self) {
        for event in self.follower.next().await {
            let Event::Read(worker, key, read) = event else { panic!("{event:?}") };
            self.events += 1;
            let worker = worker.as_str().trim_end_matches(".service").to_owned();
            let directory = format!("{}/", self.directory.path().display());
            self.told.insert(worker, format!("{key} {}", words(read).replace(&directory, "")));
        }
    }

    /// Waits until a worker's newest reading is this.
    async fn expect(&mut self, worker: &str, expected: &str) {
        let waited = timeout(SOON, async {
            while self.told.get(worker).is_none_or(|told| told != expected) {
                self.hear().await;
            }
        });
        assert!(waited.await.is_ok(), "{worker}: {expected} is awaited, but it is {:?}", self.told.get(worker));
    }
}

fn small(path: &Path) -> Vec<Probe> {
    vec![Probe::File(path.display().to_string().into())]
}

#[tokio::test]
async fn every_way_to_write_a_file_is_seen() {
    let mut scene = Scene::new();
    scene.write("p", "1");
    scene.follow_file("w", "p");
    scene.expect("w", "file value=1").await;
    scene.replace("p", "2");
    scene.expect("w", "file value=2").await;
    scene.write("p", "3");
    scene.expect("w", "file value=3").await;
    let mut open = fs::OpenOptions::new().append(true).open(scene.path("p")).expect("it is there");
    open.write_all(b"4").expect("it can be written");
    scene.expect("w", "file value=34").await;
    fs::remove_file(scene.path("p")).expect("it is there");
    scene.expect("w", "file ! p: no such file").await;
    scene.write("p", "5");
    scene.expect("w", "file value=5").await;
    fs::rename(scene.path("p"), scene.path("q")).expect("it is there");
    scene.write("q", "6");
    fs::rename(scene.path("q"), scene.path("p")).expect("it is there");
    scene.expect("w", "file value=6").await;
}

#[tokio::test]
async fn directories_come_and_go() {
    let mut scene = Scene::new();
    scene.follow_file("w", "a/b/p");
    scene.expect("w", "file ! a/b/p: no such file").await;
    fs::create_dir_all(scene.path("a/b")).expect("it can be made");
    scene.write("a/b/p", "1");
    scene.expect("w", "file value=1").await;
    fs::remove_dir_all(scene.path("a")).expect("it is there");
    scene.expect("w", "file ! a/b/p: no such file").await;
    fs::create_dir_all(scene.path("other/b")).expect("it can be made");
    scene.write("other/b/p", "2");
    fs::rename(scene.path("other"), scene.path("a")).expect("it can be renamed");
    scene.expect("w", "file value=2").await;
    fs::rename(scene.path("a/b"), scene.path("a/c")).expect("it can be renamed");
    scene.expect("w", "file ! a/b/p: no such file").await;
    fs::rename(scene.path("a/c"), scene.path("a/b")).expect("it can be renamed");
    scene.expect("w", "file value=2").await;
}

#[tokio::test]
async fn half_a_document_is_waited_for_but_not_for_ever() {
    let mut scene = Scene::new();
    scene.write("p", "{\"step\": 1}");
    scene.follow_file("w", "p");
    scene.expect("w", "file step=1 value=1").await;
    let events = scene.events;
    for step in 2..6 {
        scene.write("p", "{\"step\": ");
        scene.write("p", &format!("{{\"step\": {step}}}"));
        scene.expect("w", &format!("file step={step} value={step}")).await;
    }
    assert_eq!(scene.events, events + 4, "no error in between");
    scene.write("p", "{\"step\": ");
    scene.expect("w", "file ! p: not valid JSON: EOF while parsing a value at line 1 column 8").await;
    scene.write("p", "{\"step\": 5}");
    scene.expect("w", "file step=5 value=5").await;
}

#[tokio::test]
async fn hostile_files_are_named_and_harm_nobody_else() {
    let mut scene = Scene::new();
    let at = |name: &str| scene.path(name);
    fs::File::create(at("sparse")).and_then(|file| file.set_len(1 << 30)).expect("it can be made");
    std::os::unix::fs::symlink("/etc/passwd", at("link")).expect("it can be made");
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("it can be made");
    fs::create_dir(at("directory")).expect("it can be made");
    fs::write(at("binary"), [0, 159, 146, 150, 61, 49, 10]).expect("it can be made");
    let cases = [
        ("sparse", "larger than 1 MiB"),
        ("link", "a symbolic link"),
        ("fifo", "not a regular file"),
        ("directory", "not a regular file"),
        ("binary", "not UTF-8 text"),
    ];
    for (name, _) in cases {
        scene.follow_file(name, name);
    }
    scene.write("good", "7");
    scene.follow_file("good", "good");
    scene.expect("good", "file value=7").await;
    for (name, why) in cases {
        scene.expect(name, &format!("file ! {name}: {why}")).await;
    }
    fs::remove_file(scene.path("fifo")).expect("it is there");
    scene.write("fifo", "8");
    scene.expect("fifo", "file value=8").await;
}

#[tokio::test]
async fn what_does_not_change_is_told_once() {
    let mut scene = Scene::new();
    scene.write("p", "1");
    scene.write("other", "1");
    scene.follow_file("w", "p");
    scene.expect("w", "file value=1").await;
    for _ in 0..20 {
        scene.replace("p", "1");
        scene.write("other", "2");
    }
    scene.write("p", "2");
    scene.expect("w", "file value=2").await;
    assert_eq!(scene.events, 2);
    scene.follow_file("w", "p");
    timeout(SOON, scene.hear()).await.expect("a new order is answered by a first reading");
    assert_eq!(scene.events, 3);
}

#[tokio::test]
async fn sources_are_replaced_and_given_up() {
    let mut scene = Scene::new();
    scene.write("p", "1");
    scene.write("q", "2");
    scene.follow_file("w", "p");
    scene.expect("w", "file value=1").await;
    scene.follow_file("w", "q");
    scene.expect("w", "file value=2").await;
    scene.write("p", "3");
    scene.follow("w", Vec::new(), Duration::from_secs(1));
    scene.follow_file("v", "p");
    scene.expect("v", "file value=3").await;
    scene.write("q", "4");
    scene.write("p", "5");
    scene.expect("v", "file value=5").await;
    assert_eq!(scene.told["w"], "file value=2");
}

#[tokio::test]
async fn globs_are_looked_at_again_and_again() {
    let mut scene = Scene::new();
    let pattern: Arc<str> = scene.path("*.ckpt").display().to_string().into();
    scene.follow("n", vec![Probe::Count(pattern.clone())], Duration::from_millis(100));
    scene.follow("t", vec![Probe::Mtime(pattern)], Duration::from_millis(100));
    scene.expect("n", "count value=0").await;
    scene.expect("t", "mtime ! *.ckpt: no file matches").await;
    let file = fs::File::create(scene.path("a.ckpt")).expect("it can be made");
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(1_500)).expect("it can be set");
    scene.expect("n", "count value=1").await;
    scene.expect("t", "mtime mtime=1.5").await;
}

#[tokio::test]
async fn servers_that_hang_keep_nobody_waiting() {
    let mut scene = Scene::new();
    let silent = server(|mut stream| drop(io::Read::read_to_end(&mut stream, &mut Vec::new())));
    for n in 0..20 {
        scene.follow(&format!("silent{n}"), vec![Probe::Http(silent.as_str().into())], Duration::from_millis(100));
    }
    scene.write("p", "1");
    scene.follow_file("file", "p");
    let good = server(says("200 OK", "{\"done\": 3, \"total\": 9}"));
    let begun = Instant::now();
    scene.follow("good", vec![Probe::Http(good.as_str().into())], Duration::from_millis(100));
    scene.expect("good", "http done=3 total=9 value=3").await;
    scene.expect("file", "file value=1").await;
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    scene.expect("silent19", &format!("http ! {silent}: no answer in time")).await;
}

#[tokio::test]
async fn lines_are_told_the_newest_first_and_the_last_always() {
    let mut scene = Scene::new();
    scene.write("p", "1");
    let mut probes = small(&scene.path("p"));
    probes.push(Probe::Journal(r"step (\d+)/(\d+)".into()));
    scene.follow("w", probes, Duration::from_secs(60));
    scene.expect("w", "file value=1").await;
    scene.follow("bad", vec![Probe::Journal("(".into())], Duration::from_secs(60));
    scene.expect("bad", "journal ! the pattern \"(\" is not valid: unclosed group").await;
    let (lines, begun) = (scene.follower.lines(), Instant::now());
    for step in 0..=10_000 {
        lines.hear("w.service", format!("step {step}/10000").as_bytes());
    }
    scene.expect("w", "journal total=10000 value=10000").await;
    let most = 4 + usize::try_from(begun.elapsed().as_millis()).expect("a short time") / 100;
    assert!(scene.events <= most, "{} events", scene.events);
}

#[tokio::test]
async fn many_files_share_a_watch() {
    let mut scene = Scene::new();
    for n in 0..300 {
        scene.write(&format!("p{n}"), "1");
        scene.follow_file(&format!("w{n}"), &format!("p{n}"));
    }
    for n in 0..300 {
        scene.expect(&format!("w{n}"), "file value=1").await;
    }
    for n in 0..300 {
        scene.replace(&format!("p{n}"), "2");
    }
    for n in 0..300 {
        scene.expect(&format!("w{n}"), "file value=2").await;
    }
    assert_eq!(scene.events, 600);
}

/// The processor time of the follower's own thread, in clock ticks.
fn ticks() -> u64 {
    let tasks = procfs::process::Process::myself().and_then(|process| process.tasks()).expect("the tasks are listed");
    let stats = tasks.filter_map(|task| task.and_then(|task| task.stat()).ok());
    stats.filter(|stat| stat.comm == "progress").map(|stat| stat.utime + stat.stime).sum()
}

#[tokio::test]
#[ignore = "takes a while, and measures only if nothing else runs"]
async fn a_thousand_files_that_change_every_second_cost_little() {
    let mut scene = Scene::new();
    for n in 0..1_000 {
        scene.write(&format!("p{n}"), "{\"step\": 0, \"total\": 100, \"loss\": 0.25, \"phase\": \"train\"}");
        scene.follow_file(&format!("w{n}"), &format!("p{n}"));
    }
    for n in 0..1_000 {
        scene.expect(&format!("w{n}"), "file loss=0.25 step=0 total=100 value=0").await;
    }
    let (before, begun, events) = (ticks(), Instant::now(), scene.events);
    let path = scene.directory.path().to_owned();
    let writer = std::thread::spawn(move || {
        for step in 1..=10 {
            for n in 0..1_000 {
                let text = format!("{{\"step\": {step}, \"total\": 100, \"loss\": 0.25, \"phase\": \"train\"}}");
                fs::write(path.join(".new"), text).expect("it can be written");
                fs::rename(path.join(".new"), path.join(format!("p{n}"))).expect("it can be renamed");
                std::thread::sleep(Duration::from_micros(900));
            }
        }
    });
    for n in 0..1_000 {
        scene.expect(&format!("w{n}"), "file loss=0.25 step=10 total=100 value=10").await;
    }
    writer.join().expect("the writer ends");
    let (used, took) = (ticks() - before, begun.elapsed().as_secs_f64());
    let share = used as f64 / (took * procfs::ticks_per_second() as f64);
    println!("{} readings in {took:.1} s: {:.1} % of a core", scene.events - events, 100.0 * share);
    assert!(share < 0.1);
}
