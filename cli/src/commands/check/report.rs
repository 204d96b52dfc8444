//! Findings for programs: JSON, SARIF, GitHub's annotations.

use lapstrake_builder::check::Report;
use lapstrake_builder::diagnostic::{Diagnostic, Severity};
use lapstrake_builder::lint;
use lapstrake_builder::source::{SourceFile, Span};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// Lines and columns, both counted from 1, the end exclusive.
fn place(file: &SourceFile, span: Span) -> Value {
    let (start, end) = (file.line_col(span.start), file.line_col(span.end));
    json!({
        "startLine": start.line, "startColumn": start.column,
        "endLine": end.line, "endColumn": end.column,
    })
}

/// An array with an object for each finding.
pub(super) fn json(report: &Report) -> Value {
    let file = &report.file;
    let object = |found: &Diagnostic| {
        let related =
            |(span, note): &(Span, String)| json!({"message": note, "place": place(file, *span)});
        json!({
            "file": file.name, "code": found.code, "severity": level(found.severity),
            "message": found.message, "help": found.help, "place": place(file, found.span),
            "related": found.related.iter().map(related).collect::<Vec<_>>(),
        })
    };
    report.diagnostics.iter().map(object).collect()
}

/// A SARIF 2.1.0 log with one run.
pub(super) fn sarif(report: &Report) -> Value {
    let file = &report.file;
    let location = |span: Span| {
        json!({"physicalLocation": {
            "artifactLocation": {"uri": uri(&file.name)}, "region": place(file, span),
        }})
    };
    let codes: BTreeSet<&str> = report.diagnostics.iter().map(|found| found.code).collect();
    let rule = |code: &&str| match lint::all_rules().find(|rule| rule.name == *code) {
        Some(rule) => json!({"id": code, "shortDescription": {"text": rule.summary}}),
        None => json!({"id": code}),
    };
    let result = |found: &Diagnostic| {
        let text = match &found.help {
            Some(help) => format!("{} ({help})", found.message),
            None => found.message.clone(),
        };
        json!({
            "ruleId": found.code, "level": level(found.severity), "message": {"text": text},
            "locations": [location(found.span)],
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "lap", "version": env!("CARGO_PKG_VERSION"),
                "rules": codes.iter().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": report.diagnostics.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

/// A relative reference: whatever is not plain is written as `%xx`.
fn uri(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _infallible = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// A workflow command for each finding.
pub(super) fn github(report: &Report) -> String {
    let mut text = String::new();
    for found in &report.diagnostics {
        let (start, end) =
            (report.file.line_col(found.span.start), report.file.line_col(found.span.end));
        let message = match &found.help {
            Some(help) => format!("{}\nhint: {help}", found.message),
            None => found.message.clone(),
        };
        let _infallible = writeln!(
            text,
            "::{} file={},line={},endLine={},col={},title={}::{}",
            level(found.severity),
            escaped(&report.file.name, true),
            start.line,
            end.line,
            start.column,
            escaped(found.code, true),
            escaped(&message, false),
        );
    }
    text
}

/// What would end the command or one of its properties, as GitHub wants it written.
fn escaped(text: &str, property: bool) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    if property { text.replace(':', "%3A").replace(',', "%2C") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn report() -> Report {
        let file = Arc::new(SourceFile::new("a b,c", "FROM a\nRUN é\n"));
        let span = Span::new(7, 13);
        let found = Diagnostic::error("D005", span, "100%\nbad").with_help("try");
        Report { file, diagnostics: vec![found] }
    }

    #[test]
    fn annotations_are_escaped() {
        let expected =
            "::error file=a b%2Cc,line=2,endLine=2,col=1,title=D005::100%25%0Abad%0Ahint: try\n";
        assert_eq!(github(&report()), expected);
    }

    #[test]
    fn places_count_characters() {
        let place = &json(&report())[0]["place"];
        assert_eq!((&place["startLine"], &place["endColumn"]), (&json!(2), &json!(6)));
        let log = sarif(&report());
        let result = &log["runs"][0]["results"][0];
        let uri = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        assert_eq!(uri, "a%20b%2Cc");
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][0]["id"], "D005");
    }
}
