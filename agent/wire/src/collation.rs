//! Names of the collations that clients ask for by number in their handshake.
//!
//! Not a full list: a number that is not here is passed on to the server and never named.

/// The one that servers have where nobody configured another: utf8mb4_0900_ai_ci.
pub const OF_SERVER: u8 = 255;

/// Number, collation and character set.
const COLLATIONS: &[(u8, &str, &str)] = &[
    (1, "big5_chinese_ci", "big5"),
    (5, "latin1_german1_ci", "latin1"),
    (8, "latin1_swedish_ci", "latin1"),
    (9, "latin2_general_ci", "latin2"),
    (11, "ascii_general_ci", "ascii"),
    (12, "ujis_japanese_ci", "ujis"),
    (13, "sjis_japanese_ci", "sjis"),
    (19, "euckr_korean_ci", "euckr"),
    (24, "gb2312_chinese_ci", "gb2312"),
    (28, "gbk_chinese_ci", "gbk"),
    (31, "latin1_german2_ci", "latin1"),
    (33, "utf8mb3_general_ci", "utf8mb3"),
    (45, "utf8mb4_general_ci", "utf8mb4"),
    (46, "utf8mb4_bin", "utf8mb4"),
    (47, "latin1_bin", "latin1"),
    (48, "latin1_general_ci", "latin1"),
    (49, "latin1_general_cs", "latin1"),
    (51, "cp1251_general_ci", "cp1251"),
    (63, "binary", "binary"),
    (65, "ascii_bin", "ascii"),
    (83, "utf8mb3_bin", "utf8mb3"),
    (95, "cp932_japanese_ci", "cp932"),
    (97, "eucjpms_japanese_ci", "eucjpms"),
    (192, "utf8mb3_unicode_ci", "utf8mb3"),
    (224, "utf8mb4_unicode_ci", "utf8mb4"),
    (246, "utf8mb4_unicode_520_ci", "utf8mb4"),
    (248, "gb18030_chinese_ci", "gb18030"),
    (255, "utf8mb4_0900_ai_ci", "utf8mb4"),
];

/// A collation by its number in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collation {
    pub name: &'static str,
    pub character_set: &'static str,
}

#[must_use]
pub fn by_id(id: u8) -> Option<Collation> {
    let index = COLLATIONS.binary_search_by_key(&id, |entry| entry.0).ok()?;
    let (_, name, character_set) = COLLATIONS[index];
    Some(Collation {
        name,
        character_set,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_names_agree() {
        assert!(COLLATIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(
            COLLATIONS
                .iter()
                .all(|(_, name, set)| name.starts_with(set))
        );
        assert_eq!(by_id(255).unwrap().character_set, "utf8mb4");
        assert_eq!(by_id(2), None);
    }
}
