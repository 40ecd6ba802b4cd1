-- The tables that applications declare for projections of their own.

-- create --
CREATE TABLE "{table}" ({columns}, PRIMARY KEY ({key}));
