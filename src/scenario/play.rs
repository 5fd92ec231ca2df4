// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays a scenario: feeds its inputs to an engine and writes down what that does, line for line as in the scenario.

use super::action::{Detail, action_text};
use super::line::{Line, Value, short, span_text};
use super::{Scene, Told, event};
use crate::engine::Engine;
use crate::engine::action::Step;
use crate::engine::event::Event;
use crate::engine::ids::{IncidentId, ObjectId, WorkerName};
use crate::engine::saved::Saved;
use crate::engine::time::Span;
use crate::engine::view::{IncidentView, View, WorkerView};
use std::fmt::Write as _;
use std::time::Duration;

/// Times that the engine may ask to be woken between two lines.
const WAKES_MAX: u32 = 10_000;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Counts from 1.
    pub line: usize,
    pub why: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for Wrong {}

/// Returns the scenario with the outputs that belong to it now.
pub fn play(text: &str) -> Result<String, Wrong> {
    let mut player = Player { engine: None, scene: Scene::default(), out: String::new() };
    for (line, number) in text.lines().zip(1..) {
        player.line(line).map_err(|why| Wrong { line: number, why: format!("{why}: {}", line.trim()) })?;
    }
    Ok(player.out)
}

struct Player {
    engine: Option<Engine>,
    scene: Scene,
    out: String,
}

impl Player {
    fn line(&mut self, text: &str) -> Result<(), String> {
        match self.scene.take(text)? {
            Told::Output(..) => return Ok(()),
            Told::Comment | Told::Setting => self.copy(text),
            Told::Input(at, line) => {
                self.wake_until(at)?;
                self.scene.at = at;
                self.copy(text);
                self.input(line)?;
            }
        }
        Ok(())
    }

    /// What ends a line elsewhere is no part of it.
    fn copy(&mut self, text: &str) {
        self.out.push_str(text.trim_end_matches('\r'));
        self.out.push('\n');
    }

    /// Wakes the engine whenever it wants to be woken before `until`, or then.
    fn wake_until(&mut self, until: Duration) -> Result<(), String> {
        if self.scene.is_recording {
            return Ok(());
        }
        for _ in 0..WAKES_MAX {
            let now = self.scene.now();
            let Some((at, _)) = self.engine.as_ref().and_then(Engine::next_wakeup) else { return Ok(()) };
            if at <= now.mono {
                return Err("the engine wants to be woken in the past".into());
            }
            let wake = self.scene.at + at.since(now.mono);
            if wake > until {
                return Ok(());
            }
            self.scene.at = wake;
            self.feed(Event::Wake);
        }
        Err(format!("the engine wants to be woken more than {WAKES_MAX} times"))
    }

    fn input(&mut self, mut line: Line) -> Result<(), String> {
        let verb = line.take_word().ok_or("nothing happens")?;
        match verb.as_str() {
            "watcherd" | "machine" => {
                let what = line.take_word().unwrap_or_default();
                line.end()?;
                self.life(&verb, &what)
            }
            "show" => self.show(line),
            // While watcherd is away, units change unseen.
            "unit" | "gone" => {
                let event = event::read(&mut self.scene, &verb, line)?;
                let away = self.engine.is_none() && self.scene.saved.is_some();
                event.filter(|_| !away).map_or(Ok(()), |event| self.tell(event))
            }
            _ => event::read(&mut self.scene, &verb, line)?.map_or(Ok(()), |event| self.tell(event)),
        }
    }

    fn tell(&mut self, event: Event) -> Result<(), String> {
        self.start_engine();
        self.feed(event);
        Ok(())
    }

    fn life(&mut self, who: &str, what: &str) -> Result<(), String> {
        match (who, what) {
            ("watcherd", "killed") => {
                self.start_engine();
                let away = self.scene.now().wall;
                self.scene.saved = self.engine.take().map(|engine| Saved { away, ..engine.saved() });
            }
            ("watcherd", "started") => self.start_engine(),
            ("machine", "booted") => {
                let saved = self.engine.take().map(|engine| engine.saved());
                self.scene.saved = saved.or(self.scene.saved.take());
                if let Some(saved) = &mut self.scene.saved {
                    saved.same_boot = false;
                }
                self.scene.booted = Some(self.scene.at);
                self.scene.units.clear();
                self.start_engine();
            }
            _ => return Err(format!("{who} cannot be {what:?}")),
        }
        Ok(())
    }

    fn start_engine(&mut self) {
        if self.engine.is_none() {
            let saved = self.scene.saved.take();
            let (engine, step) = Engine::new(self.scene.policies.clone(), saved, self.scene.seed, self.scene.now());
            self.engine = Some(engine);
            self.write(&step);
        }
    }

    fn feed(&mut self, event: Event) {
        let now = self.scene.now();
        let Some(engine) = &mut self.engine else { return };
        let step = engine.handle(now, event);
        self.write(&step);
    }

    fn write(&mut self, step: &Step) {
        self.scene.note(step);
        let detail = if self.scene.is_recording { Detail::Masked } else { Detail::Full };
        for action in &step.actions {
            let text = action_text(action, self.scene.zero, detail);
            self.output(&text);
        }
    }

    fn output(&mut self, text: &str) {
        let exact = self.scene.is_recording;
        let at = if exact { span_text(self.scene.at) } else { Span(self.scene.at).to_string().replace(' ', "") };
        let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let _ = writeln!(self.out, "-> {at} {text}");
    }

    fn show(&mut self, mut line: Line) -> Result<(), String> {
        self.start_engine();
        let first = line.take_word().ok_or("a name is missing")?;
        let id = if first == "incident" {
            let mut id = IncidentId(0);
            line.word(&mut id, "a number")?;
            ObjectId::Incident(id)
        } else {
            ObjectId::Worker(WorkerName::read(&first, self.scene.zero)?)
        };
        line.end()?;
        let text = match self.engine.as_ref().and_then(|engine| engine.view(&id)) {
            Some(View::Worker(view)) => self.worker_text(&view),
            Some(View::Incident(view)) => incident_text(&view),
            _ => "show nothing".into(),
        };
        self.output(&text);
        Ok(())
    }

    fn worker_text(&self, view: &WorkerView) -> String {
        let mut text = format!("show {} {}", short(&view.name), view.phase);
        if !view.reason.is_empty() {
            let _ = write!(text, " {:?}", view.reason);
        }
        let _ = write!(text, " attempts={} left={}", view.attempts, view.budget_left);
        if let Some(incident) = view.incident {
            let _ = write!(text, " incident={incident}");
        }
        if let Some(cause) = view.cause {
            let _ = write!(text, " cause={cause}");
        }
        if let Some(progress) = &view.progress {
            let _ = write!(text, " progress={}/{}", progress.value, progress.total);
        }
        if !view.next_action.is_empty() {
            let at = self.scene.at + view.next_action_at_mono.since(self.scene.now().mono);
            let _ = write!(text, " next={}@{}", view.next_action, Span(at).to_string().replace(' ', ""));
        }
        text
    }
}

fn incident_text(view: &IncidentView) -> String {
    let remedies: Vec<_> =
        view.remedies.iter().map(|remedy| format!("{}({})", remedy.action, remedy.outcome)).collect();
    format!(
        "show incident {} {} {} {} {}% {} remedies: {}",
        view.id,
        short(&view.worker),
        [view.state.as_str(), view.result.as_str()].join("/"),
        view.cause,
        view.confidence,
        Span(view.started.since(view.opened)).to_string().replace(' ', ""),
        remedies.join(", ")
    )
}
