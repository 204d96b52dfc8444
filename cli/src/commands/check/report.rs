//! Findings for programs: JSON, SARIF, GitHub's annotations.

use lapstrake_builder::check::Report;
use lapstrake_builder::diagnostic::{Diagnostic, Edit, Fix, Severity};
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

/// An array with an object for each finding; docs/check-json.md describes it.
pub(super) fn json(reports: &[Report]) -> Value {
    let found = reports.iter().flat_map(|report| {
        report.diagnostics.iter().map(move |found| json_object(&report.file, found))
    });
    found.collect()
}

fn json_object(file: &SourceFile, found: &Diagnostic) -> Value {
    let related =
        |(span, note): &(Span, String)| json!({"message": note, "place": place(file, *span)});
    let edits = |fix: &Fix| {
        let edit =
            |edit: &Edit| json!({"place": place(file, edit.span), "text": edit.text.as_str()});
        json!({"summary": fix.summary, "edits": fix.edits.iter().map(edit).collect::<Vec<_>>()})
    };
    json!({
        "file": file.name, "code": found.code, "severity": level(found.severity),
        "message": found.message, "help": found.help, "place": place(file, found.span),
        "related": found.related.iter().map(related).collect::<Vec<_>>(),
        "fix": found.fix.as_ref().map(edits), "page": page(found.code),
    })
}

/// Where the code is explained, from the root of the documentation.
fn page(code: &str) -> String {
    if lint::is_rule(code) {
        format!("checks/{code}.md")
    } else {
        format!("checks/errors.md#{}", code.to_lowercase())
    }
}

/// A SARIF 2.1.0 log with one run over all files.
pub(super) fn sarif(reports: &[Report]) -> Value {
    let all = || {
        reports
            .iter()
            .flat_map(|report| report.diagnostics.iter().map(move |found| (&*report.file, found)))
    };
    let codes: BTreeSet<&str> = all().map(|(_, found)| found.code).collect();
    let codes: Vec<&str> = codes.into_iter().collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "lap", "version": env!("CARGO_PKG_VERSION"),
                "rules": codes.iter().map(|code| sarif_rule(code)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": all().map(|(file, it)| sarif_result(file, it, &codes)).collect::<Vec<_>>(),
        }],
    })
}

fn sarif_rule(code: &str) -> Value {
    let rule = lint::all_rules().find(|rule| rule.name == code);
    let summary = rule.map_or("the Dockerfile cannot be built", |rule| rule.summary);
    json!({
        "id": code, "shortDescription": {"text": summary},
        "help": {
            "text": format!("docs/{} explains it", page(code)),
            "markdown": format!("[docs/{0}](docs/{0}) explains it", page(code)),
        },
        "defaultConfiguration": {"level": if rule.is_some() { "warning" } else { "error" }},
    })
}

fn sarif_result(file: &SourceFile, found: &Diagnostic, codes: &[&str]) -> Value {
    let artifact = json!({"uri": uri(&file.name)});
    let location = |span: Span| json!({"physicalLocation": {"artifactLocation": &artifact, "region": place(file, span)}});
    let text = match &found.help {
        Some(help) => format!("{} ({help})", found.message),
        None => found.message.clone(),
    };
    let related = found.related.iter().enumerate().map(|(id, (span, note))| {
        let mut location = location(*span);
        location["id"] = json!(id);
        location["message"] = json!({"text": note});
        location
    });
    let mut result = json!({
        "ruleId": found.code, "level": level(found.severity), "message": {"text": text},
        "ruleIndex": codes.iter().position(|code| *code == found.code),
        "locations": [location(found.span)],
    });
    if !found.related.is_empty() {
        result["relatedLocations"] = related.collect();
    }
    if let Some(fix) = &found.fix {
        let replacement = |edit: &Edit| {
            json!({
                "deletedRegion": place(file, edit.span), "insertedContent": {"text": &edit.text},
            })
        };
        result["fixes"] = json!([{
            "description": {"text": fix.summary},
            "artifactChanges": [{
                "artifactLocation": &artifact,
                "replacements": fix.edits.iter().map(replacement).collect::<Vec<_>>(),
            }],
        }]);
    }
    result
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
        let place = &json(&[report()])[0]["place"];
        assert_eq!((&place["startLine"], &place["endColumn"]), (&json!(2), &json!(6)));
        let log = sarif(&[report()]);
        let result = &log["runs"][0]["results"][0];
        let uri = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        assert_eq!(uri, "a%20b%2Cc");
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][0]["id"], "D005");
    }
}
