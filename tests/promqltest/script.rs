//! Scripts of promqltest: text to commands.
//!
//! The language is Prometheus' (`promql/promqltest/README.md` there), its older forms included.

use aetherdb::model::Labels;
use regex::Regex;

use crate::promqltest::series::{Item, parse_labels, parse_series, parse_starts};

#[derive(Debug)]
pub(crate) enum Command {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

/// `load <step>` and its series, whose first value is at time 0.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) step_ms: i64,
    /// `load_with_nhcb`: classic histograms are loaded as native ones too.
    pub(crate) with_native: bool,
    pub(crate) series: Vec<(Labels, Vec<Item>)>,
    /// Start timestamps of series (`m@st …`): how far each lies from its sample, in milliseconds.
    pub(crate) starts: Vec<(Labels, Vec<Option<i64>>)>,
}

/// One query and what it must answer.
#[derive(Debug)]
pub(crate) struct Eval {
    pub(crate) line: usize,
    pub(crate) query: String,
    pub(crate) time: Time,
    pub(crate) expect: Expect,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Time {
    Instant(i64),
    Range { start: i64, end: i64, step_ms: i64 },
}

/// What an answer must have. Of messages each wanted one must be there, and no other.
#[derive(Debug, Default)]
pub(crate) struct Expect {
    pub(crate) fail: Option<Message>,
    pub(crate) warnings: Vec<Message>,
    pub(crate) infos: Vec<Message>,
    pub(crate) no_warning: bool,
    pub(crate) no_info: bool,
    pub(crate) ordered: bool,
    pub(crate) text: Option<String>,
    pub(crate) scalar: Option<f64>,
    pub(crate) series: Vec<(Labels, Vec<Item>)>,
    /// Times of a range vector that an instant query answers.
    pub(crate) range: Option<(i64, i64, i64)>,
}

#[derive(Debug)]
pub(crate) enum Message {
    Any,
    Exact(String),
    Pattern(Regex),
}

impl Message {
    pub(crate) fn fits(&self, text: &str) -> bool {
        match self {
            Message::Any => true,
            Message::Exact(expected) => expected == text,
            Message::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

pub(crate) fn parse_script(text: &str) -> Result<Vec<Command>, String> {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim())
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let (line, number) = (lines[at], at + 1);
        at += 1;
        if line.is_empty() {
            continue;
        }
        let body_end = at + lines[at..].iter().take_while(|line| !line.is_empty()).count();
        let word = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        let command = if word == "clear" {
            Ok(Command::Clear)
        } else if word.starts_with("load") {
            let body = &lines[at..body_end];
            at = body_end;
            parse_load(line, body).map(Command::Load)
        } else if word.starts_with("eval") {
            let body = &lines[at..body_end];
            let (eval, taken) = parse_eval(line, number, body)
                .map_err(|error| format!("line {number}: {error}"))?;
            at += taken;
            Ok(Command::Eval(Box::new(eval)))
        } else {
            Err(format!("unknown command {line:?}"))
        };
        commands.push(command.map_err(|error| format!("line {number}: {error}"))?);
    }
    Ok(commands)
}

fn parse_load(line: &str, body: &[&str]) -> Result<Load, String> {
    let (command, step) = line.split_once(char::is_whitespace).ok_or("load needs a step")?;
    let mut load = Load {
        step_ms: duration(step.trim())?,
        with_native: command == "load_with_nhcb",
        series: Vec::new(),
        starts: Vec::new(),
    };
    for line in body {
        let (labels, rest) = parse_labels(line)?;
        if let Some(starts) = rest.strip_prefix("@st") {
            load.starts.push((labels, parse_starts(starts)?));
        } else {
            load.series.push(parse_series(line)?);
        }
    }
    Ok(load)
}

/// The command and how many lines of the body belong to it.
fn parse_eval(line: &str, number: usize, body: &[&str]) -> Result<(Eval, usize), String> {
    let instant =
        pattern(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?)\s+)?(.+)$");
    let range = pattern(
        r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$",
    );
    let mut expect = Expect::default();
    let (old_form, query, time) = if let Some(parts) = instant.captures(line) {
        let at = parts.get(2).map_or(Ok(0), |at| duration(at.as_str()))?;
        (parts.get(1), parts[3].to_owned(), Time::Instant(at))
    } else if let Some(parts) = range.captures(line) {
        let (start, end) = (duration(&parts[2])?, duration(&parts[3])?);
        let time = Time::Range { start, end, step_ms: duration(&parts[4])? };
        (parts.get(1), parts[5].to_owned(), time)
    } else {
        return Err(format!("not an evaluation: {line:?}"));
    };
    match old_form.map(|form| form.as_str()) {
        Some("fail") => expect.fail = Some(Message::Any),
        Some("warn") => expect.warnings.push(Message::Any),
        Some("info") => expect.infos.push(Message::Any),
        Some("ordered") => expect.ordered = true,
        _ => {}
    }
    let mut taken = 0;
    for line in body {
        taken += 1;
        if let Some(message) = line.strip_prefix("expected_fail_message") {
            expect.fail = Some(Message::Exact(message.trim().to_owned()));
            break;
        }
        if let Some(source) = line.strip_prefix("expected_fail_regexp") {
            expect.fail = Some(Message::Pattern(regex(source.trim())?));
            break;
        }
        if line.starts_with("expect ") || *line == "expect" {
            parse_expect(line, &mut expect)?;
        } else if let Ok(value) = line.parse() {
            expect.scalar = Some(value);
            break;
        } else {
            expect.series.push(parse_series(line)?);
        }
    }
    Ok((Eval { line: number, query, time, expect }, taken))
}

fn parse_expect(line: &str, expect: &mut Expect) -> Result<(), String> {
    if let Some(text) = line.strip_prefix("expect string ") {
        let quoted = aetherdb::promql::parse(text).map_err(|error| error.to_string())?;
        let aetherdb::promql::ExprKind::String(text) = quoted.kind else {
            return Err(format!("not a string: {line:?}"));
        };
        expect.text = Some(text);
        return Ok(());
    }
    let range = pattern(r"^expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$");
    if let Some(parts) = range.captures(line) {
        expect.range = Some((duration(&parts[1])?, duration(&parts[2])?, duration(&parts[3])?));
        return Ok(());
    }
    let any =
        pattern(r"^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$");
    let parts = any.captures(line).ok_or_else(|| format!("not an expectation: {line:?}"))?;
    let message = match (parts.get(2).map(|kind| kind.as_str()), parts.get(3)) {
        (Some("msg"), Some(text)) => Message::Exact(text.as_str().trim().to_owned()),
        (Some(_), Some(text)) => Message::Pattern(regex(text.as_str().trim())?),
        _ => Message::Any,
    };
    match &parts[1] {
        "ordered" => expect.ordered = true,
        "fail" => expect.fail = Some(message),
        "warn" => expect.warnings.push(message),
        "info" => expect.infos.push(message),
        "no_warn" => expect.no_warning = true,
        _ => expect.no_info = true,
    }
    Ok(())
}

/// Milliseconds of a duration such as `1h30m` or `0`; scripts have no instants before 0.
fn duration(text: &str) -> Result<i64, String> {
    if text == "0" {
        return Ok(0);
    }
    let expr = aetherdb::promql::parse(text).map_err(|error| format!("{text:?}: {error}"))?;
    match expr.kind {
        aetherdb::promql::ExprKind::Number(literal) if literal.is_duration => Ok(literal.millis()),
        _ => Err(format!("not a duration: {text:?}")),
    }
}

fn pattern(source: &str) -> Regex {
    Regex::new(source).unwrap()
}

fn regex(source: &str) -> Result<Regex, String> {
    Regex::new(source).map_err(|error| format!("{source:?}: {error}"))
}

#[test]
fn scripts_are_read() {
    let script = "
        load 5m
            m{a=\"b\"} 1+1x2   # not a comment
    ";
    assert!(parse_script(script).is_err());
    let script = "
        # comment
        load 5m
            m{a=\"b\"} 1+1x2

        eval range from 0 to 10m step 5m sum(m)
            expect no_warn
            expect info msg: PromQL info: x (1:1)
            {} 1 2 3

        eval_fail instant at 1m30s m +
            expected_fail_message no good
        clear
        eval instant at 0 1
            1
    ";
    let commands = parse_script(script).unwrap();
    let [Command::Load(load), Command::Eval(range), Command::Eval(fail), Command::Clear, _] =
        &commands[..]
    else {
        panic!("{commands:?}")
    };
    assert_eq!((load.step_ms, load.series[0].1.len()), (300_000, 3));
    assert_eq!(range.time, Time::Range { start: 0, end: 600_000, step_ms: 300_000 });
    assert_eq!((range.query.as_str(), range.line), ("sum(m)", 6));
    assert!(range.expect.no_warning && range.expect.infos[0].fits("PromQL info: x (1:1)"));
    assert_eq!(fail.time, Time::Instant(90_000));
    assert!(fail.expect.fail.as_ref().is_some_and(|message| message.fits("no good")));
}
