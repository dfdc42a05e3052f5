-- When users were last seen.
-- depends: 0002.receipts-and-preferences

CREATE TABLE last_seen (
    user_id text        COLLATE "C" PRIMARY KEY,
    -- Only ever grows.
    seen_at timestamptz NOT NULL
    -- Written whenever a user leaves, so leave room for updates within the page.
) WITH (fillfactor = 70);
