//! `lap images`: what is in the store, by name.

use crate::args::Format;
use crate::error::CommandError;
use crate::exit::Exit;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::format;
use crate::ui::table::Table;
use crate::ui::terminal::{print, print_json};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::ImageRecord;
use serde_json::{Value, json};

/// What the help ends with.
const AFTER_HELP: &str = "\
Examples:
  lap images                     every name, newest first
  lap images debian              every tag of one repository
  lap images -q | sort -u        ids only
  lap images --format json       for programs

SIZE is the sum of the files in the image's layers, uncompressed; layers that images share count for
each of them (`lap du` counts them once).";

/// List the images in the store
#[derive(Debug, clap::Args)]
#[command(visible_alias = "ls", after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Only this repository, or this name with its tag
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Text or JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

struct Row {
    reference: Reference,
    id: String,
    created: Option<String>,
    size: u64,
    layers: usize,
}

/// Lists images.
pub(crate) fn run(args: &Args, settings: Settings) -> Result<Exit, CommandError> {
    let session = Session::open_records(settings)?;
    let mut rows = Vec::new();
    for (reference, record) in session.store.tags()? {
        if args.name.as_deref().is_none_or(|name| matches(&reference, name)) {
            rows.push(row(&session, reference, &record)?);
        }
    }
    rows.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.reference.cmp(&b.reference)));
    if args.quiet {
        let shown = |row: &Row| {
            if args.no_trunc { row.id.clone() } else { format::short_id(&row.id).to_owned() }
        };
        print(&rows.iter().map(|row| shown(row) + "\n").collect::<String>())?;
    } else if args.format == Format::Json {
        print_json(&rows.iter().map(object).collect())?;
    } else {
        print(&table(&rows, args.no_trunc, session.settings.now))?;
    }
    Ok(Exit::OK)
}

/// `debian` matches every tag of the repository, `debian:12` one.
fn matches(reference: &Reference, name: &str) -> bool {
    reference.familiar() == name
        || reference.to_string() == name
        || reference.familiar_name() == name
        || reference.name() == name
}

fn row(session: &Session, reference: Reference, record: &ImageRecord) -> Result<Row, CommandError> {
    let config = session.store.image_config(record)?;
    let mut size = 0;
    let layers = session.store.image_layers(record)?;
    for layer in &layers {
        size += layer.toc()?.stats().bytes;
    }
    Ok(Row {
        reference,
        id: record.config.to_string(),
        created: config.created,
        size,
        layers: layers.len(),
    })
}

fn table(rows: &[Row], whole: bool, now: i64) -> String {
    let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", ">SIZE"]);
    for row in rows {
        let id = if whole { &row.id } else { format::short_id(&row.id) };
        table.row([
            row.reference.familiar_name(),
            row.reference.tag().unwrap_or("<none>").to_owned(),
            id.to_owned(),
            format::ago_of(row.created.as_deref(), now),
            format::bytes(row.size),
        ]);
    }
    table.render()
}

fn object(row: &Row) -> Value {
    json!({
        "name": row.reference.familiar(),
        "repository": row.reference.familiar_name(),
        "tag": row.reference.tag(),
        "id": row.id,
        "created": row.created,
        "size": row.size,
        "layers": row.layers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_select() {
        let reference = Reference::parse("debian:12").unwrap();
        for name in
            ["debian", "debian:12", "docker.io/library/debian", "docker.io/library/debian:12"]
        {
            assert!(matches(&reference, name), "{name}");
        }
        assert!(!matches(&reference, "deb") && !matches(&reference, "debian:11"));
    }
}
