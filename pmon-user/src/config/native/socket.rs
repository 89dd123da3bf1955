//! `[[entity.socket]]`: sockets that pmon holds, from their tables to the model.
//!
//! Whether an address can be had is found out when it is opened; here is what can
//! be told from the text.

use std::{borrow::Cow, collections::HashSet, fmt, net::SocketAddr, num::NonZeroU32, path::Path};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use toml::Spanned;

use super::{Source, table::EntityTable, value::Argument};
use crate::{
    config::finding::{Finding, Level},
    core::socket::{Listen, SocketAccess, SocketSpec},
    sys::spawn::MAX_PASSED,
};

/// `backlog` unless given: what the kernel allows where nobody changed it since
/// Linux 5.4 (`SOMAXCONN`, include/linux/socket.h).
const DEFAULT_BACKLOG: u32 = 4096;
/// `sun_path` without its terminating NUL byte (unix(7)).
const LONGEST_PATH: usize = 107;
/// `FDNAME_MAX` (sd_pid_notify_with_fds(3)).
const LONGEST_NAME: usize = 255;

/// One socket that pmon opens, keeps, and passes to `command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SocketTable {
    /// Where it listens: "tcp:ADDRESS:PORT", "udp:ADDRESS:PORT" or "unix:/PATH".
    #[schemars(with = "ListenText")]
    pub listen: Spanned<ListenText>,
    /// Its name in LISTEN_FDNAMES. Default: the entity's name
    #[schemars(with = "Option<SocketName>")]
    pub name: Option<SocketName>,
    /// Connections that may wait to be accepted. Default: 4096
    pub backlog: Option<NonZeroU32>,
    /// Permissions of a unix socket, in octal. Default: "0666"
    #[schemars(with = "Option<OctalMode>")]
    pub mode: Option<Spanned<OctalMode>>,
    /// Owner of a unix socket, by name or number. Default: pmon's own
    #[schemars(with = "Option<Argument>")]
    pub user: Option<Spanned<Argument>>,
    /// Group of a unix socket, by name or number. Default: the user's
    #[schemars(with = "Option<Argument>")]
    pub group: Option<Spanned<Argument>>,
}

/// An entity's sockets, in their order.
pub(super) fn sockets(source: &Source, table: &EntityTable) -> Result<Vec<SocketSpec>, Finding> {
    let given = table.socket.as_deref().unwrap_or_default();
    let mut seen = HashSet::new();
    let mut sockets = Vec::with_capacity(given.len());
    for (index, socket) in given.iter().enumerate() {
        let SocketTable {
            listen,
            name,
            backlog,
            mode,
            user,
            group,
        } = socket;
        let error = |message: String| source.finding(Level::Error, listen.span(), message);
        if index == MAX_PASSED {
            return Err(error(format!(
                "an entity cannot have more than {MAX_PASSED} sockets"
            )));
        }
        let where_it_listens = listen.get_ref().0.clone();
        if !seen.insert(where_it_listens.clone()) {
            return Err(error(format!("the entity has `{where_it_listens}` twice")));
        }
        let is_unix = matches!(where_it_listens, Listen::Unix(_));
        let strays = [
            ("mode", mode.as_ref().map(Spanned::span)),
            ("user", user.as_ref().map(Spanned::span)),
            ("group", group.as_ref().map(Spanned::span)),
        ];
        if !is_unix && let Some((key, Some(span))) = strays.into_iter().find(|(_, it)| it.is_some())
        {
            let message = format!("`{key}` is for unix sockets only");
            return Err(source.finding(Level::Error, span, message));
        }
        let text = |given: &Option<Spanned<Argument>>| {
            given.as_ref().map(|account| account.get_ref().0.clone())
        };
        sockets.push(SocketSpec {
            listen: where_it_listens,
            name: match name {
                Some(name) => name.0.clone(),
                // A colon separates names.
                None => table.name.get_ref().0.replace(':', "_"),
            },
            backlog: backlog.map_or(DEFAULT_BACKLOG, NonZeroU32::get),
            access: SocketAccess {
                mode: mode.as_ref().map(|mode| mode.get_ref().0),
                user: text(user),
                group: text(group),
            },
        });
    }
    Ok(sockets)
}

/// `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenText(pub Listen);

fn listen(text: &str) -> Result<Listen, String> {
    let address = |text: &str| {
        let address = text.parse::<SocketAddr>().map_err(|_| {
            format!("`{text}` is not an address and a port, expected for instance `127.0.0.1:8080` or `[::1]:8080`")
        })?;
        if address.port() == 0 {
            return Err(format!(
                "`{text}` has port 0, which would be another one each time"
            ));
        }
        Ok(address)
    };
    match text.split_once(':') {
        Some(("tcp", rest)) => address(rest).map(Listen::Tcp),
        Some(("udp", rest)) => address(rest).map(Listen::Udp),
        Some(("unix", path)) if path.starts_with('/') && !path.contains('\0') => {
            if path.len() > LONGEST_PATH {
                return Err(format!(
                    "`{path}` is longer than a socket's path can be ({LONGEST_PATH} bytes)"
                ));
            }
            Ok(Listen::Unix(Path::new(path).to_path_buf()))
        }
        Some(_) | None => Err(format!(
            "`{text}` is no place to listen, expected \"tcp:ADDRESS:PORT\", \"udp:ADDRESS:PORT\" or \"unix:/PATH\""
        )),
    }
}

/// `mode`: octal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OctalMode(pub u32);

fn octal_mode(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 => Ok(mode),
        Ok(_) | Err(_) => Err(format!(
            "`{text}` is no permission mode, expected octal digits such as \"0660\""
        )),
    }
}

/// `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketName(pub String);

fn socket_name(text: &str) -> Result<String, String> {
    let bad = |c: char| c == ':' || c.is_control();
    if text.is_empty() || text.len() > LONGEST_NAME || text.contains(bad) {
        return Err(format!(
            "`{}` cannot be a socket's name, expected 1 to {LONGEST_NAME} bytes without colons and control characters",
            text.escape_default()
        ));
    }
    Ok(text.to_owned())
}

/// A type that is read from a string, with its place when it is wrong.
macro_rules! from_text {
    ($name:ident, $read:expr, $schema:literal, $json:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $read(text).map($name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Reader)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $schema.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $json
            }
        }
    };
}

from_text!(
    ListenText,
    listen,
    "Listening address",
    json_schema!({
        "type": "string",
        "pattern": "^(tcp:.+:[0-9]+|udp:.+:[0-9]+|unix:/[^\u{0}]+)$",
        "examples": ["tcp:127.0.0.1:8080", "tcp:[::]:80", "udp:0.0.0.0:53", "unix:/run/web.sock"]
    })
);
from_text!(
    OctalMode,
    octal_mode,
    "Permission mode",
    json_schema!({"type": "string", "pattern": "^[0-7]{1,4}$", "examples": ["0660"]})
);
from_text!(
    SocketName,
    socket_name,
    "Socket name",
    json_schema!({"type": "string", "pattern": "^[^:\u{0}-\u{1f}]+$"})
);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn places_to_listen() {
        let four = "127.0.0.1:80".parse().unwrap();
        assert_eq!(listen("tcp:127.0.0.1:80"), Ok(Listen::Tcp(four)));
        assert_eq!(listen("udp:127.0.0.1:80"), Ok(Listen::Udp(four)));
        let six = "[::1]:80".parse().unwrap();
        assert_eq!(listen("tcp:[::1]:80"), Ok(Listen::Tcp(six)));
        assert_eq!(listen("unix:/run/x"), Ok(Listen::Unix("/run/x".into())));
        let long = format!("unix:/{}", "x".repeat(LONGEST_PATH));
        for bad in [
            "",
            "80",
            "tcp:80",
            "tcp:localhost:80",
            "tcp:127.0.0.1",
            "tcp:127.0.0.1:0",
            "tcp:127.0.0.1:70000",
            "sctp:127.0.0.1:80",
            "unix:run/x",
            "unix:",
            &long,
        ] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_and_names() {
        assert_eq!(octal_mode("0660"), Ok(0o660));
        assert_eq!(octal_mode("7"), Ok(7));
        for bad in ["", "1777", "8", "+7", "rw"] {
            assert!(octal_mode(bad).is_err(), "{bad}");
        }
        assert!(socket_name("http").is_ok());
        for bad in ["", "a:b", "a\n", &"x".repeat(256)] {
            assert!(socket_name(bad).is_err(), "{bad}");
        }
    }
}
