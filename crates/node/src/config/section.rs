//! Reads one table of the file key by key, and notes what is wrong on the way.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::faults::{Faults, Placed};
use super::schema::{Meant, Schema, meant};

/// A table, its schema, and where it begins.
pub(super) struct Section<'t> {
    schema: &'static Schema,
    table: &'t DeTable<'t>,
    at: usize,
    /// Keys that a misspelt one stands for: they are not reported as missing too.
    misspelt: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// Opens a table that begins at `at`, and notes every key that `schema` does not know.
    pub(super) fn open(
        schema: &'static Schema,
        table: &'t DeTable<'t>,
        at: usize,
        faults: &mut Faults<'_>,
    ) -> Section<'t> {
        let mut section = Section { schema, table, at, misspelt: Vec::new() };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if schema.keys.iter().all(|known| known.name != name) {
                section.note_unknown(name, key.span().start, faults);
            }
        }
        section
    }

    fn note_unknown(&mut self, name: &str, at: usize, faults: &mut Faults<'_>) {
        let remedy = match meant(self.schema, name) {
            // Both spellings: the wrong one was not meant to be the other.
            Meant::Nearby(known) if self.table.contains_key(known) => "remove it".to_owned(),
            Meant::Nearby(known) => {
                self.misspelt.push(known);
                format!("did you mean `{known}`?")
            }
            Meant::Elsewhere(headers) => {
                let places: Vec<_> = headers.iter().map(|header| place_of(header)).collect();
                format!("it belongs {}", places.join(" or "))
            }
            Meant::Nothing => {
                let known: Vec<_> = self.schema.keys.iter().map(|key| key.name).collect();
                format!("known here: {}", known.join(", "))
            }
        };
        faults.add(at, format!("unknown key `{name}`{}; {remedy}", self.here()));
    }

    /// Where the table begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// A whole number in `[1, 2^63)`.
    pub(super) fn number(
        &self,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<Placed<u64>> {
        self.get(name).and_then(|value| number(name, value, faults))
    }

    /// A text that is not empty.
    pub(super) fn text(
        &self,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<Placed<&'t str>> {
        let value = self.get(name)?;
        let at = value.span().start;
        match value.get_ref() {
            DeValue::String(text) if text.trim().is_empty() => {
                faults.add(at, format!("`{name}` is empty; write {}", self.example(name)));
                None
            }
            DeValue::String(text) => Some(Placed { value: text.as_ref(), at }),
            other => {
                let found = other.type_str();
                let example = self.example(name);
                faults.add(at, format!("`{name}` is {}, not a text; write {example}", a(found)));
                None
            }
        }
    }

    /// A list of whole numbers; other values are noted and left out.
    pub(super) fn numbers(
        &self,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<Placed<Vec<Placed<u64>>>> {
        let value = self.get(name)?;
        let at = value.span().start;
        let DeValue::Array(list) = value.get_ref() else {
            let found = value.get_ref().type_str();
            let example = self.example(name);
            faults.add(at, format!("`{name}` is {}, not a list; write {example}", a(found)));
            return None;
        };
        let numbers = list.iter().filter_map(|value| number(name, value, faults));
        Some(Placed { value: numbers.collect(), at })
    }

    /// A table below this one.
    pub(super) fn table(
        &self,
        schema: &'static Schema,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<Section<'t>> {
        let value = self.get(name)?;
        let at = value.span().start;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::open(schema, table, at, faults)),
            other => {
                let (found, header) = (other.type_str(), schema.header);
                faults.add(at, format!("`{name}` is {}; write {header} above its keys", a(found)));
                None
            }
        }
    }

    /// The tables of a list of tables; none if the key is missing.
    pub(super) fn tables(
        &self,
        schema: &'static Schema,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Vec<Section<'t>> {
        let Some(value) = self.get(name) else {
            return Vec::new();
        };
        let DeValue::Array(list) = value.get_ref() else {
            let (found, header) = (value.get_ref().type_str(), schema.header);
            let what = format!("`{name}` is {}; write {header} above each node's keys", a(found));
            faults.add(value.span().start, what);
            return Vec::new();
        };
        if list.is_empty() {
            let header = schema.header;
            faults.add(
                value.span().start,
                format!("`{name}` is empty; write {header} for each node"),
            );
        }
        let mut sections = Vec::new();
        for value in list {
            let at = value.span().start;
            match value.get_ref() {
                DeValue::Table(table) => sections.push(Section::open(schema, table, at, faults)),
                other => {
                    let (found, header) = (other.type_str(), schema.header);
                    let what = format!("`{name}` holds {}; write {header} for each node", a(found));
                    faults.add(at, what);
                }
            }
        }
        sections
    }

    /// Notes each of `names` that is missing, unless a misspelt key stands for it.
    pub(super) fn require(&self, names: &[&'static str], faults: &mut Faults<'_>) {
        for name in names {
            if !self.table.contains_key(*name) && !self.misspelt.contains(name) {
                let remedy = match self.example(name) {
                    "" => format!("add a section {}", section_header(name)),
                    example => format!("add {name} = {example}"),
                };
                faults.add(self.at, format!("`{name}` is missing{}; {remedy}", self.here()));
            }
        }
    }

    fn get(&self, name: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(name)
    }

    fn example(&self, name: &str) -> &'static str {
        let key = self.schema.keys.iter().find(|key| key.name == name);
        key.expect("only keys of the schema are asked for").example
    }

    fn here(&self) -> String {
        match self.schema.header {
            "" => String::new(),
            header => format!(" in {header}"),
        }
    }
}

fn number(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    faults: &mut Faults<'_>,
) -> Option<Placed<u64>> {
    let at = value.span().start;
    let DeValue::Integer(integer) = value.get_ref() else {
        let found = value.get_ref().type_str();
        faults.add(at, format!("`{name}` is {}; write a whole number, without quotes", a(found)));
        return None;
    };
    match i64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .and_then(|n| n.try_into().ok())
    {
        Some(number) if number > 0 => Some(Placed { value: number, at }),
        _ => {
            faults.add(at, format!("`{name}` is {integer}; write a whole number from 1 on"));
            None
        }
    }
}

fn place_of(header: &str) -> String {
    match header {
        "" => "above the first [section]".to_owned(),
        header => format!("under {header}"),
    }
}

fn section_header(name: &str) -> &'static str {
    if name == "nodes" { "[[nodes]] for every node of the cluster" } else { "[certificates]" }
}

/// A TOML type with its article.
fn a(kind: &str) -> String {
    match kind {
        "integer" => "a number".to_owned(),
        "string" => "a text".to_owned(),
        "array" => "a list".to_owned(),
        other => format!("a {other}"),
    }
}
