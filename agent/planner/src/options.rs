//! What a session's settings change in the reading of its SQL text. Plain data; never reads a server.

/// The client character sets in which a byte below 0x80 may be the second half of a character.
///
/// Every other client character set that MySQL allows (utf8mb4, utf8mb3, latin1, ascii, binary, euckr, ...) keeps
/// ASCII bytes to themselves, so its text is read byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ClientCharset {
    /// No trail byte collides with ASCII.
    #[default]
    AsciiSafe,
    Gbk,
    Gb18030,
    Big5,
    /// sjis and cp932.
    Sjis,
}

impl ClientCharset {
    /// Finds the class by the name that `character_set_client` carries.
    pub fn from_name(name: &[u8]) -> Self {
        const BY_NAME: [(&[u8], ClientCharset); 5] = [
            (b"gbk", ClientCharset::Gbk),
            (b"gb18030", ClientCharset::Gb18030),
            (b"big5", ClientCharset::Big5),
            (b"sjis", ClientCharset::Sjis),
            (b"cp932", ClientCharset::Sjis),
        ];
        BY_NAME
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or(ClientCharset::AsciiSafe, |(_, charset)| *charset)
    }

    /// Length in bytes of the character at the head of `bytes`; 1 where no multi-byte character stands.
    #[inline]
    pub(crate) fn character_length(self, bytes: &[u8]) -> usize {
        let (lead, trail) = match (self, bytes) {
            (ClientCharset::AsciiSafe, _) | (_, [] | [_]) => return 1,
            (_, [lead, trail, ..]) => (*lead, *trail),
        };
        let is_pair = match self {
            ClientCharset::AsciiSafe => false,
            ClientCharset::Gbk => {
                matches!(lead, 0x81..=0xFE) && matches!(trail, 0x40..=0x7E | 0x80..=0xFE)
            }
            ClientCharset::Gb18030 => {
                if matches!(
                    bytes,
                    [0x81..=0xFE, 0x30..=0x39, 0x81..=0xFE, 0x30..=0x39, ..]
                ) {
                    return 4;
                }
                matches!(lead, 0x81..=0xFE) && matches!(trail, 0x40..=0x7E | 0x80..=0xFE)
            }
            ClientCharset::Big5 => {
                matches!(lead, 0xA1..=0xF9) && matches!(trail, 0x40..=0x7E | 0xA1..=0xFE)
            }
            ClientCharset::Sjis => {
                matches!(lead, 0x81..=0x9F | 0xE0..=0xFC)
                    && matches!(trail, 0x40..=0x7E | 0x80..=0xFC)
            }
        };
        if is_pair { 2 } else { 1 }
    }
}

/// How the text of one session is read. Part of every cache key: the same bytes mean different things under others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LexOptions {
    pub charset: ClientCharset,
    /// sql_mode ANSI_QUOTES: `"x"` is a name, not a string.
    pub ansi_quotes: bool,
    /// sql_mode NO_BACKSLASH_ESCAPES: a backslash in a string is a backslash.
    pub no_backslash_escapes: bool,
    /// The server's version as MySQL counts it (8.4.3 is 80403): `/*!80500 ... */` is code from it on, a comment before.
    /// `None`: any server of at least [`LexOptions::SERVER_VERSION_MIN`], perhaps several; a text whose meaning then is
    /// open is [`crate::Traits::OPEN_VERSION_COMMENT`].
    pub server_version: Option<u32>,
}

impl LexOptions {
    /// The oldest server that there may be.
    pub const SERVER_VERSION_MIN: u32 = 80_026;
    /// No server ever has this version: what is written for it is a comment everywhere.
    pub const SERVER_VERSION_NEVER: u32 = 999_999;

    /// Reads what matters for lexing out of a `sql_mode` value, as the session tracker reports it.
    #[must_use]
    pub fn with_sql_mode(mut self, sql_mode: &[u8]) -> Self {
        let has = |wanted: &[u8]| {
            sql_mode
                .split(|byte| *byte == b',')
                .any(|mode| mode.trim_ascii().eq_ignore_ascii_case(wanted))
        };
        self.ansi_quotes = has(b"ANSI_QUOTES") || has(b"ANSI");
        self.no_backslash_escapes = has(b"NO_BACKSLASH_ESCAPES");
        self
    }
}

impl Default for LexOptions {
    fn default() -> Self {
        LexOptions {
            charset: ClientCharset::AsciiSafe,
            ansi_quotes: false,
            no_backslash_escapes: false,
            server_version: None,
        }
    }
}
