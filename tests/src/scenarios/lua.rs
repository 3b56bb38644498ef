//! nginx with Lua: scripts have connections of their own, and failures that are nobody's 502.

use crate::scenario::{Amount, BASE, Need, Reply, Scenario, attempt, get};
use crate::script::HEALTHY;
use crate::upstream::{Listen, Place};

/// Of the script's connection.
const SCRIPTS: &[&str] = &["connect() failed (111: Connection refused)"];

/// Before each request a script asks a server that is down, and goes on without it.
const SCRIPTED: Scenario = Scenario {
    needs: &[Need::Module("ngx_http_lua_module.so"), Need::Module("ndk_http_module.so")],
    main: "load_module /usr/lib/nginx/modules/ndk_http_module.so;\n\
           load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;",
    upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY)), ("down", Place::V4, Listen::Nobody)],
    server: "access_by_lua_block {\n\
             local host, port = ('<down>'):match('(.+):(%d+)')\n\
             local socket = ngx.socket.tcp() socket:settimeout(1000) socket:connect(host, tonumber(port))\n\
             }\n\
             location / { proxy_pass http://<a>; }\n\
             location /refused { proxy_pass http://<down>; }\n\
             location /exit { content_by_lua_block { ngx.exit(502) } }",
    cases: &[get("/fine").may_say(SCRIPTS)],
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "lua/a_script_that_goes_on", ..SCRIPTED },
    Scenario {
        name: "lua/a_script_and_the_upstream",
        cases: &[
            get("/fine").may_say(SCRIPTS),
            // nginx's log has the script's line first.
            get("/refused")
                .fails(502, &[attempt(&["connect_refused"], "connect() failed (111")])
                .says(&["connect() failed (111 … while connecting to upstream"]),
        ],
        ..SCRIPTED
    },
    Scenario {
        name: "lua/exit",
        cases: &[get("/exit")
            .status(502)
            .reply(Reply::Is("configured_status", 502, "config"))
            .may_say(SCRIPTS)
            .amount(Amount::AtMost(20))],
        ..SCRIPTED
    },
];
