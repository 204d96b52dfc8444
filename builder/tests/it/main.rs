//! Integration tests of the builder, one module for each subject.

mod dialects;
