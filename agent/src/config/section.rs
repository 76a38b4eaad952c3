//! One table of a configuration file: hands out keys, remembers mistakes, and refuses the keys that nobody asked for.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use vt_proto::topology::Endpoint;

use super::check_secret_permissions;

/// A table that is being read.
pub(super) struct Section {
    file: PathBuf,
    /// As in `[mysqld]`, or empty for the top of the file.
    name: String,
    table: toml::Table,
    mistakes: Vec<String>,
}

impl Section {
    pub(super) fn new(file: &Path, name: &str, table: toml::Table) -> Self {
        Self {
            file: file.to_owned(),
            name: name.to_owned(),
            table,
            mistakes: Vec::new(),
        }
    }

    fn key(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    pub(super) fn mistake(&mut self, text: &str) {
        let place = if self.name.is_empty() {
            String::new()
        } else {
            format!("[{}] ", self.name)
        };
        self.mistakes
            .push(format!("{}: {place}{text}", self.file.display()));
    }

    fn wrong(&mut self, key: &str, text: &str) {
        let line = format!("{}: {}: {text}", self.file.display(), self.key(key));
        self.mistakes.push(line);
    }

    pub(super) fn optional(&mut self, key: &str) -> Option<String> {
        match self.table.remove(key)? {
            toml::Value::String(text) => Some(text),
            other => {
                self.wrong(key, &format!("must be a text, not {}", other.type_str()));
                None
            }
        }
    }

    pub(super) fn required<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(String) -> Result<T, String>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            self.wrong(key, "is missing");
            return None;
        }
        let text = self.optional(key)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(key, &error);
                None
            }
        }
    }

    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.required(key, absolute)
    }

    /// True or false; false where it is missing.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        match self.table.remove(key) {
            None => false,
            Some(toml::Value::Boolean(flag)) => flag,
            Some(_) => {
                self.wrong(key, "must be true or false");
                false
            }
        }
    }

    /// Parsed where it is given.
    pub(super) fn optional_as<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(String) -> Result<T, String>,
    ) -> Option<T> {
        self.table
            .contains_key(key)
            .then(|| self.required(key, parse))?
    }

    pub(super) fn optional_path(&mut self, key: &str) -> Option<PathBuf> {
        self.table.contains_key(key).then(|| self.path(key))?
    }

    pub(super) fn port(&mut self, key: &str) -> Option<u16> {
        match self.table.remove(key) {
            Some(toml::Value::Integer(port)) => match u16::try_from(port) {
                Ok(port) if port > 0 => Some(port),
                _ => {
                    self.wrong(key, &format!("{port} is not a port: give 1 to 65535"));
                    None
                }
            },
            Some(_) => {
                self.wrong(key, "must be a number");
                None
            }
            None => {
                self.wrong(key, "is missing");
                None
            }
        }
    }

    /// A whole number of seconds, one at least; `None` where it is missing.
    pub(super) fn seconds(&mut self, key: &str) -> Option<Duration> {
        match self.table.remove(key)? {
            toml::Value::Integer(seconds @ 1..) => {
                Some(Duration::from_secs(seconds.unsigned_abs()))
            }
            _ => {
                self.wrong(key, "must be a whole number of seconds, one at least");
                None
            }
        }
    }

    /// A whole number of milliseconds, at most a minute; `None` where it is missing.
    pub(super) fn milliseconds(&mut self, key: &str) -> Option<Duration> {
        match self.table.remove(key)? {
            toml::Value::Integer(ms @ 0..=60_000) => Some(Duration::from_millis(ms.unsigned_abs())),
            _ => {
                self.wrong(key, "must be a whole number of milliseconds, 60000 at most");
                None
            }
        }
    }

    /// A whole number above zero; `None` where it is missing.
    pub(super) fn positive(&mut self, key: &str) -> Option<NonZeroU32> {
        let value = self.table.remove(key)?;
        let number = value.as_integer().and_then(|it| u32::try_from(it).ok());
        let number = number.and_then(NonZeroU32::new);
        if number.is_none() {
            self.wrong(key, "must be a whole number above zero");
        }
        number
    }

    pub(super) fn endpoints(&mut self, key: &str) -> Vec<Endpoint> {
        let Some(toml::Value::Array(items)) = self.table.remove(key) else {
            self.wrong(key, "must be a list of \"host:port\"");
            return Vec::new();
        };
        if items.is_empty() {
            self.wrong(key, "is empty: name every coordinator");
        }
        let mut endpoints = Vec::new();
        for item in items {
            match item.as_str().map(endpoint) {
                Some(Ok(endpoint)) => endpoints.push(endpoint),
                Some(Err(error)) => self.wrong(key, &error),
                None => self.wrong(key, "must be a list of \"host:port\""),
            }
        }
        endpoints
    }

    pub(super) fn section(&mut self, name: &str) -> Option<Section> {
        match self.table.remove(name)? {
            toml::Value::Table(table) => Some(Section::new(&self.file, name, table)),
            _ => {
                self.wrong(name, "must be a table");
                None
            }
        }
    }

    pub(super) fn check_secret_file(&mut self, key: &str, path: &Path) {
        if let Err(error) = check_secret_permissions(path) {
            self.wrong(key, &error);
        }
    }

    /// Refuses what is left and hands over the mistakes.
    pub(super) fn finish(mut self, errors: &mut Vec<String>) {
        let unknown: Vec<String> = self.table.keys().map(|key| self.key(key)).collect();
        for key in unknown {
            let line = format!("{}: {key}: is not a known key", self.file.display());
            self.mistakes.push(line);
        }
        errors.append(&mut self.mistakes);
    }
}

fn absolute(text: String) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(format!("'{}' is not an absolute path", path.display()));
    }
    Ok(path)
}

pub(super) fn socket_address(text: String) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not an address and port, as in 127.0.0.1:15201"))
}

pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let refuse = || format!("'{text}' is not host:port");
    let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
    let port: u16 = port.parse().map_err(|_| refuse())?;
    if host.is_empty() || port == 0 {
        return Err(refuse());
    }
    Ok(Endpoint {
        host: host.to_owned(),
        port,
    })
}
