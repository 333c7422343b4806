package tools_test

import data.nexus

decide(roles, tools) := decision if {
	decision := nexus.decision with input as {"principal": {"roles": roles}, "request": {"tools": tools}}
}

test_no_tools if decide([], []).action == "allow"

test_tools_of_the_role if decide(["상담원"], ["search_orders", "create_ticket"]).action == "allow"

test_roles_add_up if decide(["상담원", "analyst"], ["create_ticket", "run_sql"]).action == "allow"

test_tool_of_another_role if {
	d := decide(["상담원"], ["search_orders", "run_sql", "drop_table"])
	d.action == "deny"
	d.rule == "access.tool_not_allowed"
	d.deny.message == "허용되지 않은 도구입니다: drop_table, run_sql"
}

test_no_role_no_tool if decide([], ["search_orders"]).action == "deny"

test_unknown_role_no_tool if decide(["신입"], ["search_orders"]).action == "deny"

test_star_is_all if decide(["admin"], ["anything"]).action == "allow"
