PRAGMA application_id = 0x424C5545;
CREATE TABLE results (
    fingerprint TEXT PRIMARY KEY, status TEXT NOT NULL, val_loss REAL, num_updates INTEGER NOT NULL,
    num_tokens INTEGER NOT NULL, num_flops REAL NOT NULL, train_seconds REAL NOT NULL,
    committed_at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE failures (fingerprint TEXT PRIMARY KEY, failed_at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE claims (
    fingerprint TEXT PRIMARY KEY, owner TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    expires REAL NOT NULL, progress_update INTEGER, num_updates INTEGER, tokens_per_second REAL);
CREATE TABLE studies (
    path TEXT PRIMARY KEY, name TEXT NOT NULL, question TEXT NOT NULL, fingerprints TEXT NOT NULL,
    registered_at REAL NOT NULL);
CREATE TABLE ledger (
    number INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL, appended_at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE bases (
    path TEXT PRIMARY KEY, number INTEGER NOT NULL, first_seed INTEGER NOT NULL, last_seed INTEGER NOT NULL);
