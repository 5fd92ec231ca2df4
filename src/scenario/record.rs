// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes what happens and what the engine does as a scenario.

use super::action::{Detail, action_text};
use super::line::{Line, Value, span_text};
use super::word::Word;
use super::{SETTING, Scene, event, saved};
use crate::engine::action::Step;
use crate::engine::event::Event;
use crate::engine::policy::Policies;
use crate::engine::saved::Saved;
use crate::engine::time::{Mono, Now, Wall};

/// A scenario on its way to a file.
#[derive(Clone, Debug)]
pub struct Recording {
    scene: Scene,
    out: String,
    /// systemd's version, for a file that continues this one.
    systemd: u32,
    host_stopping: bool,
}

/// What an engine begins with.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    pub policies: &'a Policies,
    pub saved: Option<&'a Saved>,
    pub seed: u64,
    pub now: Now,
}

impl Recording {
    /// Begins with a new engine, whose first step is `step`.
    pub fn begin(from: Beginning<'_>, step: &Step) -> Result<Recording, String> {
        let mut recording = Recording::started(from, false)?;
        recording.outputs(step);
        Ok(recording)
    }

    /// Goes on in a new file, from what the engine would save now.
    pub fn go_on(&self, saved: &Saved, now: Now) -> Result<Recording, String> {
        let Scene { policies, seed, .. } = &self.scene;
        let mut next = Recording::started(Beginning { policies, saved: Some(saved), seed: *seed, now }, true)?;
        next.scene.interest = self.scene.interest.clone();
        let rows = self.scene.units.clone().into_iter().collect();
        let (version, stopping) = (self.systemd, self.host_stopping);
        next.event(&Event::ServiceManager { version })?;
        next.event(&Event::Listed(self.scene.interest.clone(), rows))?;
        if stopping {
            next.event(&Event::HostStopping(true))?;
        }
        next.scene.requests = self.scene.requests;
        Ok(next)
    }

    fn started(from: Beginning<'_>, continued: bool) -> Result<Recording, String> {
        let scene = Scene {
            zero: from.now,
            policies: from.policies.clone(),
            seed: from.seed,
            is_recording: true,
            is_continued: continued,
            ..Scene::default()
        };
        let mut recording = Recording { scene, out: String::new(), systemd: 0, host_stopping: false };
        let Now { mono, wall } = from.now;
        let clock = format!("{}/{}", mono.text(Now::default()), wall.text(Now { mono: Mono(0), wall: Wall(0) }));
        recording.out.push_str("# What happened and what watcherd did; watcherctl replay reads it.\n");
        let mut line = Line::writing(from.now);
        line.push(Word::Plain("recording".into()));
        line.push(Word::Pair("clock".into(), clock));
        line.flag("continued", &mut continued.clone());
        recording.write(&line);
        recording.out.push_str(&format!("seed {}\n", from.seed));
        let policies = recording.scene.policy_lines();
        policies.iter().skip(1).for_each(|line| recording.write(line));
        for line in from.saved.map(|saved| saved::write(saved, from.now)).transpose()?.unwrap_or_default() {
            recording.out.push_str("saved ");
            recording.write(&line);
        }
        recording.out.push_str("0s watcherd started\n");
        Ok(recording)
    }

    /// One event, and what followed from it.
    pub fn step(&mut self, now: Now, event: &Event, step: &Step) -> Result<(), String> {
        self.scene.at = now.mono.since(self.scene.zero.mono).max(self.scene.at);
        let shift = now.wall.0.saturating_sub((self.scene.zero.wall + self.scene.at).0);
        if shift != self.scene.wall_shift {
            self.scene.wall_shift = shift;
            let mut line = Line::writing(Now::default());
            line.push(Word::Plain("wall".into()));
            line.word(&mut Mono(shift), "")?;
            self.write(&line);
        }
        self.event(event)?;
        self.outputs(step);
        Ok(())
    }

    fn event(&mut self, told: &Event) -> Result<(), String> {
        match told {
            Event::ServiceManager { version } => self.systemd = *version,
            Event::HostStopping(stopping) => self.host_stopping = *stopping,
            _ => {}
        }
        let time = span_text(self.scene.at);
        for line in event::write(&mut self.scene, told)? {
            if !SETTING.contains(&line.first()) {
                self.out.push_str(&time);
                self.out.push(' ');
            }
            self.write(&line);
        }
        Ok(())
    }

    fn outputs(&mut self, step: &Step) {
        let time = span_text(self.scene.at);
        for action in &step.actions {
            let text = action_text(action, self.scene.zero, Detail::Masked);
            self.out.push_str("-> ");
            self.out.push_str(&time);
            self.out.push(' ');
            // A text for people may have line ends in it.
            self.out.extend(text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }));
            self.out.push('\n');
        }
        self.scene.note(step);
    }

    fn write(&mut self, line: &Line) {
        self.out.push_str(&line.text());
        self.out.push('\n');
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }
}
