-- What the filter language is translated to where databases differ; the values are bound.

-- like --
{column} LIKE ? ESCAPE '\';

-- label --
EXISTS (SELECT 1 FROM json_each({column}) WHERE {condition});

-- json_text --
CAST(json_extract({column}, ?) AS TEXT);

-- json_type --
json_type({column}, ?) = ?;
