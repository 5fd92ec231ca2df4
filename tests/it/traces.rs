// SPDX-License-Identifier: MIT OR Apache-2.0
//! Simulated workers under the default policy: healthy ones of many kinds are never called stalled, and each of them is
//! found soon after it dies. `cargo test traces -- --nocapture` prints how often and how soon.

use std::time::Duration;
use watcherd::config::own_layer;
use watcherd::engine::Engine;
use watcherd::engine::action::{Action, EntryKind, Step};
use watcherd::engine::event::{Active, Event, Outcome, UnitFacts};
use watcherd::engine::ids::{InvocationId, WorkerName};
use watcherd::engine::policy::{Layer, Policies, Setting, Source, UnitPattern};
use watcherd::engine::source::{Activity, GpuUse, Reading};
use watcherd::engine::time::{Mono, Now, Span, Wall};

/// The default of `progress.stall-min`.
const LOWER_BOUND: f64 = 600.0;

/// How many workers of each kind.
const SEEDS: u64 = 3;

/// A stretch without progress, in seconds, and what the worker does in it.
type Gap = (f64, Does);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Nothing that could be seen.
    Hidden,
    /// It reads or writes all the time.
    Storage,
    /// A GPU works for it.
    Gpu,
    /// It says that it is in another stage meanwhile.
    Stage,
}

struct Trace {
    name: &'static str,
    gaps: Vec<Gap>,
}

#[test]
fn healthy_workers_are_left_alone_and_dead_ones_are_found() {
    let head = ["gaps", "median", "p99 (time)", "false alarms", "found after", "ratio"];
    println!("{:34} {:>8} {:>12} {:>12} {:>12} {:>14} {:>8}", "", head[0], head[1], head[2], head[3], head[4], head[5]);
    let (mut alarms, mut gaps) = (0, 0);
    for trace in (0..SEEDS).flat_map(traces) {
        let mut run = Run::begin();
        let mut false_alarms = 0;
        for (seconds, does) in &trace.gaps {
            run.pass(*seconds, *does);
            // Told as often as it happens, so that what comes afterwards is judged, too.
            false_alarms += usize::from(run.stalled.take().is_some());
            run.progress();
        }
        (alarms, gaps) = (alarms + false_alarms, gaps + trace.gaps.len());
        let died = run.now.mono;
        run.pass(4.0 * 3600.0, Does::Hidden);
        let found = run.stalled.unwrap_or_else(|| panic!("{}: the dead worker is not found", trace.name));
        let after = found.since(died).as_secs_f64();
        let mut sorted: Vec<f64> = trace.gaps.iter().map(|(seconds, _)| *seconds).collect();
        sorted.sort_by(f64::total_cmp);
        let (median, longest) = (sorted[sorted.len() / 2], by_time(&sorted, 0.99));
        let span = |seconds: f64| Span(Duration::from_secs(seconds as u64)).to_string();
        println!(
            "{:34} {:8} {:>11.1}s {:>12} {:>12} {:>14} {:8.2}",
            trace.name,
            sorted.len(),
            median,
            span(longest),
            false_alarms,
            span(after),
            after / longest.max(LOWER_BOUND)
        );
        assert!(after <= (3.0 * longest).max(LOWER_BOUND) + 1.0, "{}: found after {after} s", trace.name);
    }
    println!("{alarms} false alarms in {gaps} gaps of healthy workers");
    assert_eq!(alarms, 0, "healthy workers were called stalled");
}

/// The gap that the worker spends the given share of its time below.
fn by_time(sorted: &[f64], share: f64) -> f64 {
    let total: f64 = sorted.iter().sum();
    let mut passed = 0.0;
    let gap = sorted.iter().find(|gap| {
        passed += **gap;
        passed >= share * total
    });
    gap.copied().unwrap_or_default()
}

fn traces(seed: u64) -> Vec<Trace> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 + seed);
    let mut make = |name, count: usize, gap: &mut dyn FnMut(&mut Dice, usize) -> Gap| Trace {
        name,
        gaps: (1..=count).map(|at| gap(&mut dice, at)).collect(),
    };
    vec![
        make("steady, 10 s", 2_000, &mut |dice, _| (10.0 * (0.9 + 0.2 * dice.share()), Does::Hidden)),
        make("very fast, 100 ms", 40_000, &mut |_, _| (0.1, Does::Hidden)),
        make("slow, 8 min", 60, &mut |dice, _| (480.0 * (0.8 + 0.4 * dice.share()), Does::Hidden)),
        make("very slow, 20 min", 30, &mut |dice, _| (1_200.0 * (0.8 + 0.4 * dice.share()), Does::Hidden)),
        make("long tail (log-normal)", 3_000, &mut |dice, _| (30.0 * dice.normal().exp(), Does::Hidden)),
        make("bursts, pauses of 12 min", 3_000, &mut |dice, at| {
            (if at % 50 == 0 { 720.0 * (0.8 + 0.4 * dice.share()) } else { 0.5 }, Does::Hidden)
        }),
        make("slows down from 5 s to 20 min", 1_200, &mut |_, at| (5.0 * 1.0047_f64.powi(at as i32), Does::Hidden)),
        make("checkpoint every 500 steps", 10_000, &mut |dice, at| {
            if at % 500 == 0 { (300.0, Does::Storage) } else { (2.0 * (0.5 + dice.share()), Does::Hidden) }
        }),
        make("evaluation of 9 min, twice a day", 40_000, &mut |_, at| {
            if at % 20_000 == 0 { (540.0, Does::Hidden) } else { (2.0, Does::Hidden) }
        }),
        make("evaluation of 25 min, with I/O", 6_000, &mut |_, at| {
            if at % 2_000 == 0 { (1_500.0, Does::Storage) } else { (2.0, Does::Hidden) }
        }),
        make("evaluation of 25 min, on a GPU", 6_000, &mut |_, at| {
            if at % 2_000 == 0 { (1_500.0, Does::Gpu) } else { (2.0, Does::Hidden) }
        }),
        make("evaluation of 25 min, as a stage", 8_000, &mut |_, at| {
            if at % 2_000 == 0 { (1_500.0, Does::Stage) } else { (2.0, Does::Hidden) }
        }),
        make("evaluation of 30 min every hour", 3_000, &mut |_, at| {
            if at % 600 == 0 { (1_800.0, Does::Hidden) } else { (3.0, Does::Hidden) }
        }),
    ]
}

/// One worker with the default policy, in simulated time.
struct Run {
    engine: Engine,
    name: WorkerName,
    now: Now,
    done: f64,
    io: u64,
    has_stages: bool,
    stalled: Option<Mono>,
}

impl Run {
    fn begin() -> Run {
        let pairs = [("progress.file".to_owned(), "/srv/status.json".to_owned())];
        let name = WorkerName::parse("train").expect("a name");
        let pattern = UnitPattern::parse("train").expect("a pattern");
        let units = vec![Setting { value: pattern, from: Source("test".into()) }];
        let layer = Layer { units, ..own_layer(&pairs, "test").expect("a policy") };
        let policies = Policies { layers: vec![layer.into()], ..Policies::default() };
        let now = Now { mono: Mono(1_000_000), wall: Wall(1_000_000) };
        let (engine, _) = Engine::new(policies, None, 1, now);
        let mut run = Run { engine, name: name.clone(), now, done: 0.0, io: 0, has_stages: false, stalled: None };
        let facts = UnitFacts {
            active: Active::Active,
            sub: "running".into(),
            invocation: Some(InvocationId([1; 16])),
            main_pid: 10,
            ..UnitFacts::default()
        };
        run.feed(Event::Unit(name, facts), Does::Hidden);
        run.progress();
        run
    }

    fn progress(&mut self) {
        self.done += 1.0;
        let stage = self.has_stages.then(|| "train".into());
        self.read(Reading { values: [("value".into(), self.done)].into(), stage, ..Reading::default() });
    }

    fn read(&mut self, reading: Reading) {
        self.feed(Event::Read(self.name.clone(), "file", Ok(reading)), Does::Hidden);
    }

    /// Lets time pass without progress.
    fn pass(&mut self, seconds: f64, does: Does) {
        if does == Does::Stage {
            self.has_stages = true;
            self.read(Reading { stage: Some("evaluate".into()), ..Reading::default() });
        }
        let until = self.now.mono + Duration::from_secs_f64(seconds);
        while let Some((at, _)) = self.engine.next_wakeup().filter(|(at, _)| *at <= until && self.stalled.is_none()) {
            self.advance(at, does);
            self.feed(Event::Wake, does);
        }
        self.advance(until, does);
    }

    fn advance(&mut self, at: Mono, does: Does) {
        let passed = at.since(self.now.mono);
        if does == Does::Storage {
            // 2 MiB a second.
            self.io += u64::try_from(passed.as_millis()).unwrap_or(0) * 2_000;
        }
        self.now = Now { mono: at.max(self.now.mono), wall: self.now.wall + passed };
    }

    fn feed(&mut self, event: Event, does: Does) {
        let step = self.engine.handle(self.now, event);
        self.perform(step, does);
    }

    fn perform(&mut self, step: Step, does: Does) {
        for action in step.actions {
            match action {
                Action::Look(id, ..) => {
                    let busy = GpuUse { held: 1 << 30, compute: Some(80), memory: Some(30) };
                    let gpu = (does == Does::Gpu).then_some(busy);
                    let activity = Activity { io: self.io, gpu, ..Activity::default() };
                    self.feed(Event::Done(id, Outcome::Activity(activity)), does);
                }
                Action::Record(entry) if entry.kind == EntryKind::Stalled => self.stalled = Some(self.now.mono),
                _ => {}
            }
        }
    }
}

/// A seeded generator (xorshift64*).
struct Dice(u64);

impl Dice {
    /// Normally distributed (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.share().ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }

    /// From above 0 to 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}
