pub(super) mod directory;
