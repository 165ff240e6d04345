"""What becomes of nginx's directives that stand for themselves: a table, and rules by argument.

What concerns sites (listen, server_name, location, proxy_pass, root…) is in `nginx_server` and
`nginx_locations`; what is one setting of the node is in `nginx_settings`.
"""

from __future__ import annotations

import re

from onetrip.cli.imports.nginx_files import Directive
from onetrip.cli.imports.report import Outcome

Verdict = tuple[Outcome, str]

OPAQUE = frozenset(
    [
        "if",
        "map",
        "geo",
        "types",
        "split_clients",
        "stream",
        "mail",
        "match",
        "limit_except",
        "perl_set",
        "charset_map",
        "content_by_lua_block",
        "access_by_lua_block",
        "rewrite_by_lua_block",
        "mgmt",
    ]
)
"""Blocks whose insides are no directives of their own, or mean nothing without the block."""

_STREAMS = "bodies stream with bounded buffers (proxy.buffer_size)"
_COMPRESS = (
    "nothing is compressed on the way: let the application compress, or put NAME.gz and NAME.br "
    "beside files (docs/static.md)"
)
_ACCESS = "refuse in the application, or at the firewall"
_RATE = "rates are not limited; proxy.max_connections and proxy.pool_requests bound what runs"
_CACHE = "let the application say it: Cache-Control: s-maxage, stale-if-error (docs/cache.md)"
_APPS = "only HTTP: put the application's own HTTP server behind onetrip"
_SERVICE = "is the service unit's business (docs/deploy.md)"
_CONDITION = "onetrip's configuration has no conditions; let the application decide"
_TLS = "onetrip offers suites with forward secrecy and AEAD, and resumes sessions"
_SOCKET = "is onetrip's own business"
_VERIFIED = "certificates of https:// instances are always verified, with SNI"

_B, _L, _C = Outcome.BUILT_IN, Outcome.LEFT_OUT, Outcome.CHANGED

_GROUPS: tuple[tuple[Outcome, str, str], ...] = (
    (_B, _SERVICE, "user pid daemon master_process events worker_rlimit_nofile worker_priority "
     "worker_cpu_affinity load_module env lock_file thread_pool working_directory pcre_jit "
     "use multi_accept accept_mutex accept_mutex_delay"),
    (_B, "proxy.max_connections bounds clients", "worker_connections"),
    (_B, _SOCKET, "sendfile tcp_nopush tcp_nodelay aio directio output_buffers postpone_output "
     "server_names_hash_bucket_size server_names_hash_max_size types_hash_max_size "
     "types_hash_bucket_size variables_hash_max_size variables_hash_bucket_size "
     "map_hash_bucket_size map_hash_max_size proxy_headers_hash_max_size "
     "proxy_headers_hash_bucket_size open_file_cache open_file_cache_valid "
     "open_file_cache_min_uses open_file_cache_errors reset_timedout_connection "
     "client_header_buffer_size connection_pool_size request_pool_size lingering_close "
     "lingering_timeout lingering_time client_body_in_file_only client_body_temp_path "
     "fastcgi_temp_path uwsgi_temp_path scgi_temp_path "
     "client_body_buffer_size ignore_invalid_headers merge_slashes underscores_in_headers "
     "proxy_socket_keepalive http2_max_concurrent_streams http2_chunk_size"),
    (_B, _STREAMS, "proxy_buffering proxy_buffers proxy_buffer_size proxy_busy_buffers_size "
     "proxy_max_temp_file_size proxy_temp_file_write_size proxy_temp_path "
     "proxy_request_buffering chunked_transfer_encoding grpc_buffer_size"),
    (_B, "instances are spoken to over HTTP/1.1, kept open; protocol: h2 for HTTP/2",
     "proxy_http_version keepalive_time"),
    (_B, "responses say Server as the instance did", "server_tokens"),
    (_B, "files are sent with onetrip's own table of endings", "types default_type include "
     "charset source_charset charset_types override_charset"),
    (_B, "the least loaded and fastest of two random instances is chosen", "least_conn least_time "
     "random"),
    (_B, "instances are resolved by the system, again and again", "resolver resolver_timeout"),
    (_B, "shared by the workers without being told", "zone"),
    (_B, "an edge fetches a response once, however many ask for it", "proxy_cache_lock "
     "proxy_cache_lock_timeout proxy_cache_lock_age proxy_cache_background_update "
     "proxy_cache_revalidate"),
    (_B, "siblings NAME.gz and NAME.br are sent where they are", "gzip_static brotli_static "
     "gunzip gzip_vary"),
    (_B, _TLS, "ssl_prefer_server_ciphers ssl_session_cache ssl_session_timeout "
     "ssl_session_tickets ssl_dhparam ssl_buffer_size ssl_early_data ssl_session_ticket_key"),
    (_C, _TLS, "ssl_ciphers ssl_ecdh_curve ssl_conf_command"),
    (_B, _VERIFIED, "proxy_ssl_server_name proxy_ssl_session_reuse proxy_ssl_verify_depth "
     "proxy_ssl_protocols proxy_ssl_ciphers"),
    (_L, "OCSP answers are not stapled; authorities have begun to stop offering them",
     "ssl_stapling ssl_stapling_verify ssl_trusted_certificate"),
    (_L, "clients are not asked for certificates", "ssl_client_certificate ssl_verify_client "
     "ssl_verify_depth ssl_crl ssl_password_file"),
    (_L, "instances are not shown certificates, and are verified by the system's authorities",
     "proxy_ssl_certificate proxy_ssl_certificate_key proxy_ssl_trusted_certificate "
     "proxy_ssl_name"),
    (_L, _COMPRESS, "gzip gzip_types gzip_comp_level gzip_min_length gzip_proxied gzip_disable "
     "gzip_buffers gzip_http_version brotli brotli_types brotli_comp_level brotli_min_length "
     "zstd zstd_types zstd_comp_level"),
    (_L, _ACCESS, "allow deny satisfy auth_basic auth_basic_user_file auth_request "
     "auth_request_set secure_link secure_link_md5 valid_referers auth_jwt auth_delay internal"),
    (_L, _RATE, "limit_req limit_req_zone limit_req_status limit_req_log_level limit_conn "
     "limit_conn_zone limit_conn_status limit_rate limit_rate_after proxy_limit_rate"),
    (_L, _CACHE, "proxy_cache_valid proxy_cache_use_stale proxy_cache_bypass proxy_no_cache "
     "proxy_cache_methods proxy_cache_min_uses proxy_ignore_headers proxy_cache_key "
     "proxy_cache_purge proxy_cache_convert_head proxy_cache_max_range_offset "
     "proxy_force_ranges slice"),
    (_C, "kept in memory, bounded by cache.max_size", "proxy_cache_path proxy_cache"),
    (_L, _APPS, "fastcgi_pass uwsgi_pass scgi_pass memcached_pass fastcgi_param fastcgi_index "
     "fastcgi_split_path_info fastcgi_read_timeout fastcgi_buffers fastcgi_buffer_size "
     "fastcgi_intercept_errors fastcgi_hide_header fastcgi_keep_conn uwsgi_param "
     "uwsgi_read_timeout scgi_param perl js_content js_import"),
    (_L, "paths are passed on as they are; let the application, or a router in it, know them",
     "rewrite rewrite_log"),
    (_L, _CONDITION, "if set map geo split_clients break match"),
    (_L, "answers come from instances or files; put it in the application", "return error_page "
     "recursive_error_pages stub_status autoindex autoindex_exact_size autoindex_localtime "
     "random_index empty_gif mirror mirror_request_body dav_methods dav_access"),
    (_L, "responses pass unchanged: let the application do it", "sub_filter sub_filter_once "
     "sub_filter_types add_header add_trailer proxy_hide_header proxy_pass_header "
     "more_set_headers more_clear_headers proxy_cookie_path proxy_cookie_domain "
     "proxy_cookie_flags addition_types add_before_body add_after_body ssi ssi_types image_filter "
     "proxy_intercept_errors userid userid_name proxy_redirect absolute_redirect "
     "server_name_in_redirect port_in_redirect etag if_modified_since expires"),
    (_L, "requests pass with their method and body", "proxy_method proxy_set_body "
     "proxy_pass_request_headers proxy_pass_request_body limit_except"),
    (_L, "one client is not kept at one instance: keep sessions where all instances see them",
     "ip_hash hash sticky sticky_cookie_insert"),
    (_L, "HTTP only: for databases see onetrip relay (docs/relay.md)", "stream mail"),
    (_L, "HTTP/3 is not served", "http3 quic_retry quic_gso ssl_quic"),
    (_L, "set proxy.source_address per node instead", "proxy_bind"),
    (_C, "the access log is JSON lines (log.access)", "access_log log_format"),
    (_C, "events go to standard error as JSON (log.level)", "error_log log_not_found "
     "log_subrequest rewrite_log"),
    (_B, "instances that fail are ejected (proxy.ejection), and probed (health_path)",
     "proxy_next_upstream proxy_next_upstream_timeout health_check"),
    (_B, "proxy.write_timeout and read_timeout bound both directions", "proxy_send_timeout "
     "grpc_send_timeout proxy_ignore_client_abort"),
)  # fmt: skip

TABLE: dict[str, Verdict] = {
    name: (outcome, detail) for outcome, detail, names in _GROUPS for name in names.split()
}

_REQUEST_FIELDS: dict[str, tuple[str, str]] = {
    # name: (values that onetrip sends itself, what it does)
    "host": (r"\$(?:http_)?host(?::\$server_port)?", "passed on as the client sent it"),
    "x-forwarded-for": (r"\$proxy_add_x_forwarded_for|\$remote_addr|\$http_x_forwarded_for",
                        "is sent; what clients claim counts only from proxy.trusted_proxies"),
    "x-forwarded-proto": (r"\$scheme|\$http_x_forwarded_proto|https?", "is sent"),
    "x-forwarded-host": (r"\$(?:http_)?host(?::\$server_port)?", "is sent"),
    "x-request-id": (r"\$request_id", "is sent"),
    "forwarded": (r".*", "is sent (RFC 7239)"),
    "upgrade": (r"\$http_upgrade", "WebSocket passes without being told"),
    "connection": (r"|upgrade|close|keep-alive|\$connection_upgrade|\$http_connection",
                   "connections to instances are kept, WebSocket passes"),
    "accept-encoding": (r"\$http_accept_encoding", "passes as the client sent it"),
}  # fmt: skip


def verdict(directive: Directive) -> Verdict:
    """Return what becomes of a directive that no site and no setting asked for."""
    name, args = directive.name, directive.args
    if name in ("proxy_set_header", "grpc_set_header"):
        return _request_field(args)
    if args[:1] == ("off",) and name in _OFF_BY_NATURE:
        return Outcome.BUILT_IN, "off here, too"
    if name == "map" and args[:1] == ("$http_upgrade",):
        return Outcome.BUILT_IN, "WebSocket passes without being told"
    if name == "proxy_redirect" and args[:1] == ("default",):
        return Outcome.BUILT_IN, "Host is passed on, so instances name the public address"
    if name == "proxy_ssl_verify":
        return _VERDICT_VERIFY[args == ("on",)]
    found = TABLE.get(name)
    if found is None:
        return Outcome.LEFT_OUT, "the import does not know this directive"
    if name == "log_format":
        return found[0], "the access log is JSON lines with fields of its own (docs/monitoring.md)"
    return found


_VERDICT_VERIFY: dict[bool, Verdict] = {
    True: (Outcome.BUILT_IN, _VERIFIED),
    False: (Outcome.CHANGED, _VERIFIED),
}

_OFF_BY_NATURE = frozenset(
    [
        "gzip",
        "brotli",
        "zstd",
        "auth_basic",
        "proxy_redirect",
        "ssi",
        "autoindex",
        "proxy_intercept_errors",
        "ssl_stapling",
        "ssl_stapling_verify",
        "proxy_cache",
        "http2",
        "http3",
        "ssl_verify_client",
        "expires",
        "proxy_cookie_path",
        "proxy_cookie_domain",
        "recursive_error_pages",
        "server_name_in_redirect",
        "rewrite_log",
    ]
)
"""Directives whose `off` is how onetrip is."""


def _request_field(args: tuple[str, ...]) -> Verdict:
    if len(args) != 2:
        return Outcome.LEFT_OUT, "request fields pass as the client sent them"
    known = _REQUEST_FIELDS.get(args[0].lower())
    if known is not None and re.fullmatch(known[0], args[1], re.IGNORECASE):
        return Outcome.BUILT_IN, known[1]
    if args[0].lower() == "x-real-ip":
        return Outcome.LEFT_OUT, "not sent: read X-Forwarded-For or Forwarded instead"
    return Outcome.LEFT_OUT, "request fields pass as the client sent them; this one is not added"
