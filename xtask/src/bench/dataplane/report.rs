//! What comes of all runs: medians, and their ratios to ours.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context;
use serde::Serialize;

use super::Measured;
use super::contestant::Contestant;
use crate::bench::load::Cost;

/// All measurements, by load and contestant.
#[derive(Default)]
pub(super) struct Report {
    /// In the order of their first measurement.
    cases: Vec<&'static str>,
    measured: BTreeMap<(&'static str, Contestant), Vec<Measured>>,
}

/// The medians of one contestant under one load.
#[derive(Serialize)]
struct Row {
    load: &'static str,
    contestant: String,
    runs: usize,
    gbits_per_second: f64,
    lost_percent: Option<f64>,
    retransmits: f64,
    /// At a fixed load where there was one.
    machine_cpu_seconds_per_gbit: f64,
    /// Of the first node and the second.
    node_cpu_seconds_per_gbit: [f64; 2],
    /// After as much as passed.
    resident_megabytes: [f64; 2],
    /// Our processor time to this one's; nothing where ours was not measured.
    isthmus_cpu_ratio: Option<f64>,
    /// Our speed to this one's.
    isthmus_speed_ratio: Option<f64>,
}

impl Report {
    pub(super) fn add(&mut self, measured: Measured) {
        let (case, contestant) = (measured.case.name, measured.contestant);
        if !self.cases.contains(&case) {
            self.cases.push(case);
        }
        self.measured.entry((case, contestant)).or_default().push(measured);
    }

    /// The figures for people.
    pub(super) fn text(&self) -> String {
        let rows = self.rows().into_iter().map(|row| row.to_string());
        let title = "medians; CPU-s/Gbit of the whole machine and of the two nodes; in brackets, ours to theirs";
        std::iter::once(title.to_owned())
            .chain(rows)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The figures for programs.
    pub(super) fn json(&self) -> anyhow::Result<String> {
        serde_json::to_string_pretty(&self.rows()).context("write the figures as JSON")
    }

    fn rows(&self) -> Vec<Row> {
        let cases = self.cases.iter();
        cases
            .flat_map(|case| {
                Contestant::ALL
                    .into_iter()
                    .filter_map(|contestant| self.row(case, contestant))
            })
            .collect()
    }

    fn row(&self, load: &'static str, contestant: Contestant) -> Option<Row> {
        let runs = self.measured.get(&(load, contestant))?;
        // Who is in a tailnet is compared with ours in a tailnet.
        let ours = if [Contestant::IsthmusJoined, Contestant::Tailscaled].contains(&contestant) {
            Contestant::IsthmusJoined
        } else {
            Contestant::Isthmus
        };
        let ours = self
            .measured
            .get(&(load, ours))
            .or_else(|| self.measured.get(&(load, Contestant::Isthmus)))
            .filter(|_| contestant != ours);
        let speed = |runs: &[Measured]| median(runs, |run| run.most.gbits_per_second);
        let processor = |runs: &[Measured]| median(runs, |run| run.cost().machine_cpu_seconds_per_gbit);
        let node = |which: usize| median(runs, |run| run.cost().processes[which].cpu_seconds_per_gbit);
        let resident = |which: usize| median(runs, |run| run.most.processes[which].resident_megabytes);
        Some(Row {
            load,
            contestant: contestant.to_string(),
            runs: runs.len(),
            gbits_per_second: speed(runs),
            lost_percent: runs[0]
                .most
                .lost_percent
                .map(|_| median(runs, |run| run.most.lost_percent.unwrap_or_default())),
            retransmits: median(runs, |run| {
                f64::from(u32::try_from(run.most.retransmits).unwrap_or(u32::MAX))
            }),
            machine_cpu_seconds_per_gbit: processor(runs),
            node_cpu_seconds_per_gbit: [node(0), node(1)],
            resident_megabytes: [resident(0), resident(1)],
            isthmus_cpu_ratio: ours.map(|ours| processor(ours) / processor(runs)),
            isthmus_speed_ratio: ours.map(|ours| speed(ours) / speed(runs)),
        })
    }
}

impl Measured {
    /// The one by which processor time is counted.
    fn cost(&self) -> &Cost {
        self.fixed.as_ref().unwrap_or(&self.most)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, contestant) = (self.case.name, self.contestant.to_string());
        let (most, cost) = (self.most.gbits_per_second, self.cost());
        let all = cost.machine_cpu_seconds_per_gbit;
        write!(f, "{name:<22} {contestant:<22} {most:6.2} Gbit/s  {all:6.3} CPU-s/Gbit")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = |ratio: Option<f64>| ratio.map(|ratio| format!(" ({ratio:.2})")).unwrap_or_default();
        let (speed, all) = (self.gbits_per_second, self.machine_cpu_seconds_per_gbit);
        let ([a, b], [one, two]) = (self.node_cpu_seconds_per_gbit, self.resident_megabytes);
        let lost = self
            .lost_percent
            .map(|lost| format!("  {lost:.1} % lost"))
            .unwrap_or_default();
        write!(
            f,
            "{:<22} {:<22} {speed:6.2} Gbit/s{}  {all:6.3} CPU-s/Gbit{}  nodes {a:.3} {b:.3}  {one:.1} and {two:.1} MB{lost}",
            self.load,
            self.contestant,
            ratio(self.isthmus_speed_ratio),
            ratio(self.isthmus_cpu_ratio),
        )
    }
}

fn median(runs: &[Measured], figure: impl Fn(&Measured) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
