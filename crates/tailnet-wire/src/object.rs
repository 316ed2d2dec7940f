//! JSON objects read the way Go's `encoding/json` reads them.
//!
//! The Go programs decode member names without regard to ASCII case, take `null` for the zero value, skip members they
//! do not know, and let the last of several equal members win. Peers have come to rely on all four: some clients write
//! `HostInfo` or `Os`, Go itself writes `null` for nil slices, and every release adds members. `serde`'s derive offers
//! none of this in combination, so `wire_struct!` declares a struct together with both directions:
//!
//! ```text
//! wire_struct! {
//!     /// A pair.
//!     pub struct Pair {
//!         /// Always written.
//!         always "Left" => left: String,
//!         /// Left out when it equals its default.
//!         omit "Right" => right: Option<Vec<String>>,
//!     }
//! }
//! ```
//!
//! Decoding streams over the input once: each member name is compared with the struct's own short list of names, and
//! nothing is buffered or copied. Where absence and emptiness mean different things, the field is an `Option`: `null`
//! and absence are `None`, an empty list is `Some`.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Visitor};

/// A value for which `null` stands for the default.
pub(crate) struct Nullable<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Nullable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<T>::deserialize(deserializer).map(|value| Self(value.unwrap_or_default()))
    }
}

/// Reads one member name and finds it among the known ones; `None` is a member to skip.
pub(crate) struct MemberName(pub(crate) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for MemberName {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().copied().find(|known| known.eq_ignore_ascii_case(name)))
    }
}

/// Declares a public struct with its JSON member names, and how it is read and written. See the module's documentation.
macro_rules! wire_struct {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $mode:ident $member:literal => $field:ident : $ty:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[allow(clippy::struct_excessive_bools, reason = "the wire format has them")]
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $( $crate::object::wire_struct!(@write $mode map $member self.$field); )*
                map.end()
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members;
                impl<'de> ::serde::de::Visitor<'de> for Members {
                    type Value = $name;

                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str(concat!("a ", stringify!($name), " object"))
                    }

                    fn visit_map<A: ::serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        const NAMES: &[&str] = &[$( $member ),*];
                        let mut out = $name::default();
                        while let Some(name) = map.next_key_seed($crate::object::MemberName(NAMES))? {
                            match name {
                                $( Some($member) => {
                                    out.$field = map
                                        .next_value::<$crate::object::Nullable<$ty>>()
                                        .map_err(|error| $crate::object::in_member($member, &error))?
                                        .0;
                                } )*
                                Some(_) | None => {
                                    map.next_value::<::serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(out)
                    }
                }
                deserializer.deserialize_map(Members)
            }
        }
    };
    (@write always $map:ident $member:literal $value:expr) => {
        $map.serialize_entry($member, &$value)?;
    };
    (@write omit $map:ident $member:literal $value:expr) => {
        if !$crate::object::is_default(&$value) {
            $map.serialize_entry($member, &$value)?;
        }
    };
}
pub(crate) use wire_struct;

/// Whether a member may be left out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Prefixes a decoding error with the member it happened in, so that nested errors read as a path.
pub(crate) fn in_member<E: serde::de::Error>(member: &str, error: &E) -> E {
    E::custom(format_args!("{member}: {error}"))
}

#[cfg(test)]
mod tests;
