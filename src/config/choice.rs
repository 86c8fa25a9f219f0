//! Settings whose value is one word of a few.

/// An enum and the words of its variants, each said once: the table of settings takes the words from it, and a word
/// that the table accepts has a variant.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// Every variant, in the order in which help texts name them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word of every variant, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word as it is given, and as the log shows it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// The variant of this very word.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.as_str() == word)
            }
        }

        impl $crate::config::settings::FromValue for $name {
            fn from_value(value: &$crate::config::value::Value) -> Option<Self> {
                match value {
                    $crate::config::value::Value::Text(word) => Self::of_word(word),
                    _ => None,
                }
            }
        }
    };
}
pub(super) use choice;
