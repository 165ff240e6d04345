"""Names that decide whether SQL surely only reads: functions that are pure, words that are not.

A function counts as harmless only when it is in this list (or in the relay's configuration): what
an application's own functions do cannot be seen. Nothing here touches sequences, locks, settings,
other servers or the state of a session, and nothing tells about the server it runs on.

Source: PostgreSQL documentation, chapter "Functions and Operators"; "Hot Standby", section
"User's Overview" for what a replica refuses.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BEFORE_PARENTHESES = _words(
    """all and any array as asymmetric between bit both by case char character collate cross cube
    decimal distinct double else end except exists explain extract fetch filter first float from
    full grouping having ilike in inner int intersect interval is isnull join lateral leading left
    like limit materialized natural next not notnull null numeric offset on only or order outer
    over overlaps partition range recursive right rollup row rows select sets similar some
    symmetric table tablesample then time timestamp to trailing union using values varchar varbit
    varying when where window with within"""
)
"""Keywords and types that an opening parenthesis may follow without a call."""

PURE_FUNCTIONS = _words(
    """abs acos acosd age array_agg array_append array_cat array_dims array_fill array_length
    array_lower array_ndims array_position array_positions array_prepend array_remove array_replace
    array_sample array_shuffle array_to_json array_to_string array_upper ascii asin asind atan atan2
    atan2d atand avg bit_and bit_count bit_length bit_or bool_and bool_or btrim cardinality cast
    cbrt ceil ceiling char_length character_length chr clock_timestamp coalesce concat concat_ws
    convert convert_from convert_to corr cos cosd cot count covar_pop covar_samp cume_dist
    current_database current_schema current_schemas
    date date_bin date_part date_trunc decode degrees dense_rank div encode erf every exp extract
    factorial first_value floor format gcd gen_random_uuid generate_series generate_subscripts
    get_bit get_byte greatest grouping host hostmask initcap isempty isfinite json_agg
    json_array_elements json_array_elements_text json_array_length json_build_array
    json_build_object json_each json_each_text json_extract_path json_extract_path_text
    json_object json_object_agg json_object_keys json_populate_record json_populate_recordset
    json_strip_nulls json_to_record json_to_recordset json_typeof jsonb_agg jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each
    jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object
    jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query
    jsonb_path_query_array jsonb_path_query_first jsonb_populate_record jsonb_populate_recordset
    jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset
    jsonb_typeof justify_days justify_hours justify_interval lag last_value lcm lead least left
    length ln log log10 lower lower_inc lower_inf lpad ltrim make_date make_interval make_time
    make_timestamp make_timestamptz masklen max md5 min min_scale mod mode netmask network now
    nth_value ntile nullif num_nonnulls num_nulls numnode octet_length overlay parse_ident
    percent_rank percentile_cont percentile_disc pg_sleep pg_typeof phraseto_tsquery pi
    plainto_tsquery position
    power querytree quote_ident quote_literal quote_nullable radians random range_agg
    range_merge rank regexp_count regexp_instr regexp_like regexp_match regexp_matches
    regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr regr_avgx regr_avgy
    regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy repeat replace reverse
    right round row_number row_to_json rpad rtrim scale set_byte setweight sha224 sha256 sha384
    sha512 sign sin sind split_part sqrt starts_with statement_timestamp stddev stddev_pop
    stddev_samp string_agg string_to_array string_to_table strip strpos substr substring sum tan
    tand timeofday timezone to_ascii to_char to_date to_hex to_json to_jsonb to_number to_timestamp
    to_tsquery to_tsvector transaction_timestamp translate trim trim_array trim_scale trunc
    ts_headline ts_rank ts_rank_cd tsvector_to_array unnest upper upper_inc upper_inf var_pop
    var_samp variance websearch_to_tsquery width_bucket"""
)
"""Functions of the server itself that give the same on a replica and change nothing."""

NEVER_READS = _words("create declare delete execute insert into merge refresh share update")
"""Words that make a query doubtful wherever they stand: what CTEs write, SELECT INTO, row locks,
and what EXPLAIN ANALYZE would run."""

PINNING_FUNCTIONS = _words(
    """dblink_connect dblink_connect_u pg_advisory_lock pg_advisory_lock_shared
    pg_try_advisory_lock pg_try_advisory_lock_shared set_config setseed"""
)
"""Functions that leave state in the session; `set_config` only without its `is_local`."""

KEPT_SETTINGS = _words(
    """application_name bytea_output client_encoding client_min_messages datestyle
    default_transaction_deferrable default_transaction_isolation default_transaction_read_only
    extra_float_digits geqo idle_in_transaction_session_timeout idle_session_timeout intervalstyle
    jit lc_messages lc_monetary lc_numeric lc_time lock_timeout log_min_duration_statement
    search_path statement_timeout synchronous_commit timezone transaction_timeout work_mem
    xmloption"""
)
"""Settings that are set again on each server connection; any other one pins the session."""

NODE_SETTINGS = _words(
    "all in_hot_standby transaction_read_only transaction_isolation transaction_deferrable"
)
"""What SHOW tells differently on a replica."""
