//! The spans of a timeline as HTML with one SVG in it: no script, nothing from elsewhere.

use super::{Doing, Lane, Span};
use crate::ui::format;
use crate::ui::progress::Names;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Sizes in pixels.
const WIDTH: f64 = 1200.0;
const NAMES: f64 = 160.0;
const ROW: f64 = 24.0;
const AXIS: f64 = 28.0;
/// A span that is shorter is drawn as wide, since it would be invisible.
const SPAN_MIN: f64 = 1.5;
/// About what a character of a label takes; a label that does not fit is left to the tooltip.
const CHARACTER: f64 = 6.6;
/// What a mark's text takes.
const MARK: f64 = 48.0;
/// About how many marks the axis has.
const MARKS: f64 = 10.0;

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1f2328; --weak: #656d76; --line: #d0d7de; --back: #fff }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --weak: #8b949e; --line: #30363d; --back: #0d1117 } }
body { font: 14px system-ui, sans-serif; color: var(--text); background: var(--back); margin: 24px auto; max-width: 1240px }
h1 { font-size: 18px; margin: 0 0 4px } p { color: var(--weak); margin: 0 0 16px }
svg { width: 100%; height: auto } text { fill: var(--text); font: 12px system-ui, sans-serif }
.axis { stroke: var(--line) } .mark { fill: var(--weak); font-size: 11px }
.in { font-size: 11px; fill: #fff; pointer-events: none }
.Lookup { fill: #8250df } .Wait { fill: var(--line) } .Cached { fill: #1a7f37 } .Run { fill: #0969da }
.Failed { fill: #cf222e } .Digest { fill: #9a6700 } .Transfer { fill: #0e7c86 } .Output { fill: #bc4c00 }
.legend span { display: inline-block; margin-right: 16px; color: var(--text) }
.legend svg { width: 12px; height: 12px; margin-right: 5px; vertical-align: -1px }
table { border-collapse: collapse; margin-top: 20px; width: 100% } caption { text-align: left; font-weight: 600; padding: 4px 0 }
td, th { text-align: left; padding: 3px 12px 3px 0; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums }
td.n, th.n { text-align: right; white-space: nowrap } td.l { font-family: ui-monospace, monospace; font-size: 12px; overflow-wrap: anywhere }
";

/// What each colour means.
const LEGEND: [(Doing, &str); 8] = [
    (Doing::Run, "executed"),
    (Doing::Cached, "from the cache"),
    (Doing::Lookup, "looked up: files hashed, key made"),
    (Doing::Wait, "waited"),
    (Doing::Failed, "failed"),
    (Doing::Digest, "hashed and compressed in the background"),
    (Doing::Transfer, "fetched or sent"),
    (Doing::Output, "written"),
];

/// How many of the longest spans are listed below the picture.
const LISTED: usize = 40;

/// The whole page.
pub(super) fn render(title: &str, names: &Names, spans: &[Span], total: Duration) -> String {
    let rows = rows(spans);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<meta name=\"generator\" content=\"lap\">\n<title>{title}</title>\n\
         <style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n<p>{} in all; point at a span to read \
         what it is.</p>\n",
        format::duration(total),
        title = escaped(title),
    );
    legend(&mut page, spans);
    picture(&mut page, names, &rows, total);
    table(&mut page, names, spans);
    page.push_str("</body></html>\n");
    page
}

/// One row of the picture.
struct Row<'a> {
    lane: Lane,
    /// Whether the lane's name stands here: it does in its first row.
    first: bool,
    spans: Vec<&'a Span>,
}

/// Each lane's spans in as few rows as hold them side by side.
fn rows(spans: &[Span]) -> Vec<Row<'_>> {
    let mut lanes: BTreeMap<&Lane, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        lanes.entry(&span.lane).or_default().push(span);
    }
    let mut all = Vec::new();
    for (lane, mut spans) in lanes {
        spans.sort_by_key(|span| (span.from, span.to));
        let begin = all.len();
        for span in spans {
            let free = |row: &&mut Row<'_>| row.spans.last().is_none_or(|s| s.to <= span.from);
            match all[begin..].iter_mut().find(free) {
                Some(row) => row.spans.push(span),
                None => all.push(Row {
                    lane: lane.clone(),
                    first: all.len() == begin,
                    spans: vec![span],
                }),
            }
        }
    }
    all
}

fn legend(page: &mut String, spans: &[Span]) {
    page.push_str("<p class=\"legend\">");
    for (doing, means) in LEGEND {
        if spans.iter().any(|span| span.doing == doing) {
            let _infallible = write!(
                page,
                "<span><svg viewBox=\"0 0 12 12\"><rect class=\"{doing:?}\" width=\"12\" \
                 height=\"12\" rx=\"2\"/></svg>{means}</span>"
            );
        }
    }
    page.push_str("</p>\n");
}

fn picture(page: &mut String, names: &Names, rows: &[Row<'_>], total: Duration) {
    // A build that took no time at all is drawn as one millisecond.
    let seconds = total.as_secs_f64().max(0.001);
    let x = |at: Duration| NAMES + at.as_secs_f64() / seconds * (WIDTH - NAMES);
    #[expect(clippy::cast_precision_loss, reason = "rows are few")]
    let height = AXIS + ROW * rows.len() as f64;
    let _infallible = writeln!(page, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    let step = mark_step(seconds);
    let mut at = 0.0;
    while at <= seconds {
        let x = NAMES + at / seconds * (WIDTH - NAMES);
        let text = if x + MARK > WIDTH {
            String::new()
        } else {
            format::duration(Duration::from_secs_f64(at))
        };
        let _infallible = writeln!(
            page,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"18\" y2=\"{height}\"/>\
             <text class=\"mark\" x=\"{:.1}\" y=\"12\">{text}</text>",
            x + 2.0
        );
        at += step;
    }
    let mut y = AXIS;
    for row in rows {
        if row.first {
            let name = escaped(&format::truncated(&lane_name(&row.lane, names), 22));
            let _infallible = writeln!(page, "<text x=\"0\" y=\"{}\">{name}</text>", y + 15.0);
        }
        for span in &row.spans {
            draw(page, span, (x(span.from), x(span.to)), y);
        }
        y += ROW;
    }
    page.push_str("</svg>\n");
}

fn draw(page: &mut String, span: &Span, (from, to): (f64, f64), y: f64) {
    let width = (to - from).max(SPAN_MIN);
    let took = format::duration(span.to.saturating_sub(span.from));
    let label = escaped(&span.label);
    let _infallible = writeln!(
        page,
        "<g><title>{label}\n{}, {took}</title><rect class=\"{:?}\" x=\"{from:.1}\" y=\"{y}\" \
         width=\"{width:.1}\" height=\"{}\" rx=\"2\"/>",
        meaning(span.doing),
        span.doing,
        ROW - 4.0
    );
    #[expect(clippy::cast_sign_loss, reason = "widths are positive")]
    let fits = (width / CHARACTER) as usize;
    if fits >= 6 && span.doing != Doing::Wait {
        // Which step of the stage it is shows by its place.
        let what = span.label.split_once("] ").map_or(&*span.label, |(_, text)| text);
        let text = escaped(&format::truncated(what, fits.saturating_sub(1)));
        let (x, y) = (from + 4.0, y + 14.0);
        let _infallible = writeln!(page, "<text class=\"in\" x=\"{x:.1}\" y=\"{y}\">{text}</text>");
    }
    page.push_str("</g>\n");
}

/// The longest spans as text, for whoever cannot or will not point.
fn table(page: &mut String, names: &Names, spans: &[Span]) {
    let mut longest: Vec<&Span> = spans.iter().collect();
    longest.sort_by_key(|span| std::cmp::Reverse(span.to.saturating_sub(span.from)));
    longest.truncate(LISTED);
    page.push_str(
        "<table><caption>What took longest</caption><tr><th class=\"n\">took</th><th \
         class=\"n\">from</th><th>where</th><th>how</th><th>what</th></tr>\n",
    );
    for span in longest {
        let _infallible = writeln!(
            page,
            "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td \
             class=\"l\">{}</td></tr>",
            format::duration(span.to.saturating_sub(span.from)),
            format::duration(span.from),
            escaped(&lane_name(&span.lane, names)),
            meaning(span.doing),
            escaped(&span.label),
        );
    }
    page.push_str("</table>\n");
}

fn meaning(doing: Doing) -> &'static str {
    LEGEND.iter().find(|(each, _)| *each == doing).map_or("", |(_, means)| means)
}

fn lane_name(lane: &Lane, names: &Names) -> String {
    match lane {
        Lane::Bases => "base images".to_owned(),
        Lane::Stage(index) => names.stage(*index),
        Lane::Background => "background".to_owned(),
        Lane::Outputs => "outputs".to_owned(),
        Lane::Transfers => "transfers".to_owned(),
    }
}

/// A round number of seconds between two marks.
fn mark_step(seconds: f64) -> f64 {
    let raw = seconds / MARKS;
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= raw).unwrap_or(10.0);
    factor * power
}

/// Text that no browser takes for markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_overlap_get_rows_of_their_own() {
        let span = |from, to| Span {
            lane: Lane::Transfers,
            doing: Doing::Transfer,
            label: String::new(),
            from: Duration::from_secs(from),
            to: Duration::from_secs(to),
        };
        let spans = [span(0, 2), span(1, 3), span(2, 4), span(5, 6)];
        let rows = rows(&spans);
        let counts: Vec<usize> = rows.iter().map(|row| row.spans.len()).collect();
        assert_eq!(counts, [3, 1]);
        assert_eq!(rows.iter().map(|row| row.first).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn marks_are_round() {
        let near = |got: f64, wanted: f64| (got / wanted - 1.0).abs() < 1e-9;
        assert!(near(mark_step(10.0), 1.0) && near(mark_step(13.0), 2.0));
        assert!(near(mark_step(0.004), 0.0005) && near(mark_step(400.0), 50.0));
    }
}
