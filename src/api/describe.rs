// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects as values: all properties of an object at once, and the same as JSON.

use super::error::ApiError;
use serde_json::{Map, Value};
use std::collections::HashMap;
use zbus::message::Header;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, OwnedVariant, Variant};

/// What org.freedesktop.DBus.Properties.GetAll would answer for the object; without a header, what everybody may see.
pub async fn properties<I: Interface>(
    object: &I,
    connection: &Connection,
    header: Option<&Header<'_>>,
) -> zbus::Result<HashMap<String, OwnedVariant>> {
    let emitter = SignalEmitter::new(connection, super::client::ROOT)?;
    Ok(object.get_all(connection.object_server(), connection, header, &emitter).await?)
}

/// The same as one JSON object, with the properties' names as keys.
pub async fn json<I: Interface>(
    object: &I,
    connection: &Connection,
    header: Option<&Header<'_>>,
) -> Result<Map<String, Value>, ApiError> {
    let properties = properties(object, connection, header).await;
    let properties = properties.map_err(|error| ApiError::Failed(format!("the properties cannot be read: {error}")))?;
    Ok(properties.iter().map(|(name, value)| (name.clone(), value_of(value))).collect())
}

/// Bytes become hexadecimal digits, structures become arrays, dictionaries objects.
pub fn value_of(variant: &Variant<'_>) -> Value {
    match variant {
        Variant::U8(n) => (*n).into(),
        Variant::Bool(b) => (*b).into(),
        Variant::I16(n) => (*n).into(),
        Variant::U16(n) => (*n).into(),
        Variant::I32(n) => (*n).into(),
        Variant::U32(n) => (*n).into(),
        Variant::I64(n) => (*n).into(),
        Variant::U64(n) => (*n).into(),
        Variant::F64(n) => (*n).into(),
        Variant::Str(text) => text.as_str().into(),
        Variant::Signature(signature) => signature.to_string().into(),
        Variant::ObjectPath(path) => path.as_str().into(),
        Variant::Variant(inner) => value_of(inner),
        Variant::Array(array) => match bytes(array.iter()) {
            Some(digits) if array.element_signature() == &zbus::Signature::U8 => digits.into(),
            _ => array.iter().map(value_of).collect(),
        },
        Variant::Structure(structure) => structure.fields().iter().map(value_of).collect(),
        Variant::Dict(dict) => {
            let key = |key: &Variant<'_>| match value_of(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object(dict.iter().map(|(name, value)| (key(name), value_of(value))).collect())
        }
        Variant::Fd(_) => Value::Null,
    }
}

fn bytes<'a>(items: impl Iterator<Item = &'a Variant<'a>>) -> Option<String> {
    items.map(|item| if let Variant::U8(byte) = item { Some(format!("{byte:02x}")) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_keep_their_meaning() {
        assert_eq!(value_of(&Variant::from(u64::MAX)), json!(18_446_744_073_709_551_615_u64));
        assert_eq!(value_of(&Variant::from(vec![0xabu8, 1])), json!("ab01"));
        assert_eq!(value_of(&Variant::from(Vec::<u8>::new())), json!(""));
        assert_eq!(value_of(&Variant::from(Vec::<String>::new())), json!([]));
        assert_eq!(value_of(&Variant::new(vec![("a", "b", 1u32)])), json!([["a", "b", 1]]));
        assert_eq!(value_of(&Variant::from(HashMap::from([("a", 1.5)]))), json!({"a": 1.5}));
        assert_eq!(value_of(&Variant::from(f64::NAN)), json!(null));
    }
}
