"""Configurations of other proxies, made into onetrip's: readers, rules, and a report of each line.

A reader turns a file into directives (`nginx_files`, `caddy_files`), rules turn those into a
`draft.Draft`, and `report` has what became of every one of them: nothing is dropped in silence.
"""
