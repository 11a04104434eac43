//! The model's constraints, checked by walking a decoded input once. See [`Violation`].
