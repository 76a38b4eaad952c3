//! A failure zone. It names nothing; tablets name it.

use vt_proto::{
    convert::{ConvertError, parse},
    ids::CellName,
    topology::Cell,
    wire,
};

use super::Record;

impl Record for Cell {
    type Key = CellName;
    type Wire = wire::Cell;
    type WireKey = String;
    const NOUN: &'static str = "cell";
    const IS_HELD: bool = true;

    fn key_to_wire(name: CellName) -> String {
        name.to_string()
    }

    fn key_from_wire(name: String) -> Result<CellName, ConvertError> {
        parse("key.cell", &name)
    }
}
