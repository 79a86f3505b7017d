//! What was measured: samples of both sides under a row's name, and the table made of them.

use crate::pair::Side;
use std::fmt::Write;

/// What a row must reach.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Times the plain directory's figure at most.
    Ratio(f64),
    /// The figure itself at most, whatever the plain directory does.
    Most(f64),
    /// Shown for what it tells, without a goal.
    Shown,
}

struct Row {
    name: String,
    unit: &'static str,
    goal: Goal,
    plain: Vec<f64>,
    bucket: Vec<f64>,
}

/// All rows in the order of their first sample.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

impl Report {
    /// Adds one sample; smaller is better for every unit.
    pub fn add(&mut self, name: &str, unit: &'static str, goal: Goal, side: Side, sample: f64) {
        let at = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            let (plain, bucket) = (Vec::new(), Vec::new());
            self.rows.push(Row { name: name.to_owned(), unit, goal, plain, bucket });
            self.rows.len() - 1
        });
        // A run takes long: who breaks it off has this.
        eprintln!("  {name}: {sample:.3} {unit}, {side:?}");
        let row = &mut self.rows[at];
        if side == Side::Plain { row.plain.push(sample) } else { row.bucket.push(sample) }
    }

    /// Adds a sentence below the table.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Takes over another report's rows and notes.
    pub fn append(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
        self.notes.append(&mut other.notes);
    }

    /// The table in Markdown.
    pub fn table(&self) -> String {
        let mut out = String::from(
            "| measure | plain directory | BucketFS | ratio | goal | |\n|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let (plain, bucket) = (median(&row.plain), median(&row.bucket));
            let ratio = plain.zip(bucket).map(|(plain, bucket)| bucket / plain);
            let (goal, reached) = row.judge(ratio, bucket);
            let ratio = ratio.map_or(String::from("–"), |ratio| format!("{ratio:.2}"));
            let shown = [row.show(plain), row.show(bucket), ratio, goal].join(" | ");
            writeln!(out, "| {} | {shown} | {reached} |", row.name).expect("writing to memory");
        }
        out
    }

    /// The sentences below the table.
    pub fn notes(&self) -> String {
        self.notes.iter().fold(String::new(), |out, note| out + "\n- " + note) + "\n"
    }
}

impl Row {
    fn judge(&self, ratio: Option<f64>, bucket: Option<f64>) -> (String, &'static str) {
        let verdict = |value: Option<f64>, most: f64| match value {
            Some(value) if value <= most => "yes",
            Some(_) => "**no**",
            None => "",
        };
        match self.goal {
            Goal::Ratio(most) => (format!("≤ {most} ×"), verdict(ratio, most)),
            Goal::Most(most) => (format!("≤ {most} {}", self.unit), verdict(bucket, most)),
            Goal::Shown => (String::from("–"), ""),
        }
    }

    fn show(&self, value: Option<f64>) -> String {
        let Some(value) = value else { return String::from("–") };
        let digits = match value {
            value if value >= 100.0 => 0,
            value if value >= 1.0 => 2,
            _ => 4,
        };
        format!("{value:.digits$} {}", self.unit)
    }
}
