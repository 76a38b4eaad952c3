//! Numbers that only ever grow, and the only comparisons that make sense for them.

use std::fmt;

macro_rules! growing_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first.
            pub const ZERO: $name = $name(0);

            /// The following number.
            #[must_use]
            pub fn next(self) -> $name {
                assert!(self.0 < u64::MAX, "{} is exhausted", stringify!($name));
                $name(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

growing_number! {
    /// The number of the current primaryship of a replica set, granted by a raft commit.
    Epoch
}
growing_number! {
    /// The number of the desired state of one agent; agents refuse older ones.
    Generation
}
growing_number! {
    /// The raft log index of the change that last touched a record.
    Revision
}
growing_number! {
    /// How many times a guard has started its mysqld: names one life of one server.
    Incarnation
}
