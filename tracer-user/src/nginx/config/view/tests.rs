use super::{Chain, Said, View};
use crate::{
    model::configured::Place,
    nginx::config::tree::{Tree, read, tests::Memory},
};

pub(in crate::nginx::config) fn tree(files: &[(&str, &str)]) -> Tree {
    read(&mut Memory::of(files), files[0].0, None).expect("it can be read")
}

const SITE: &str = "events { worker_connections 7; }
http {
  proxy_read_timeout 1s;
  proxy_set_header A a;
  proxy_set_header B b;
  upstream Back { server 10.0.0.1; }
  server {
    listen 80;
    proxy_connect_timeout 2s;
    location / {
      proxy_read_timeout 3s;
      location /in { proxy_set_header C c; }
      if ($arg_x) { proxy_pass http://x; }
    }
    location = / { proxy_send_timeout 4s; }
    location ~* \\.php$ { proxy_send_timeout 5s; }
    location ^~ /a { proxy_send_timeout 6s; }
    location @named { proxy_send_timeout 7s; }
    location ~/joined { proxy_send_timeout 8s; }
    location =/exact { proxy_send_timeout 9s; }
    location \"/with space\" { proxy_send_timeout 10s; }
    proxy_send_timeout 11s;
  }
}";

/// `directive` as in force in a location: its lines' values, joined.
fn said(view: &View<'_>, location: &str, directive: &str) -> String {
    let servers = view.servers(&Place { file: "/a".into(), line: 7 });
    assert_eq!(servers.len(), 1);
    let chains = view.locations(&servers[0], location);
    let one = |chain: &Chain<'_>| match view.said(chain, directive) {
        Said::Set(lines) => lines.iter().map(|line| line.arguments.join(" ")).collect::<Vec<_>>().join(", "),
        Said::Unset => "unset".to_owned(),
        Said::Unknown => "unknown".to_owned(),
    };
    chains.iter().map(one).collect::<Vec<_>>().join(" | ")
}

#[test]
fn inner_blocks_inherit_what_they_do_not_have() {
    let tree = tree(&[("/a", SITE)]);
    let view = View::new(&tree, 1);
    for (location, directive, expected) in [
        ("", "proxy_read_timeout", "1s"),
        ("/a", "proxy_read_timeout", "1s"),
        ("/a", "proxy_connect_timeout", "2s"),
        ("/in", "proxy_read_timeout", "3s"),
        // Of those that may stand several times all are inherited, or none.
        ("/a", "proxy_set_header", "A a, B b"),
        ("/in", "proxy_set_header", "C c"),
        ("/a", "proxy_buffer_size", "unset"),
        // A prefix, the if block in it, and the exact one are all called "/".
        ("/", "proxy_send_timeout", "11s | 11s | 4s"),
        ("\\.php$", "proxy_send_timeout", "5s"),
        ("/a", "proxy_send_timeout", "6s"),
        ("@named", "proxy_send_timeout", "7s"),
        ("/joined", "proxy_send_timeout", "8s"),
        ("/exact", "proxy_send_timeout", "9s"),
        ("/with space", "proxy_send_timeout", "10s"),
        ("/none", "proxy_send_timeout", ""),
    ] {
        assert_eq!(said(&view, location, directive), expected, "{directive} in {location}");
    }
    assert!(matches!(view.said_in_events("worker_connections"), Said::Set(lines) if lines[0].arguments == ["7"]));
    assert!(matches!(view.said_in_main("worker_rlimit_nofile"), Said::Unset));
    assert!(view.upstream("back").is_some() && view.upstream("other").is_none());
    assert!(view.servers(&Place { file: "/a".into(), line: 8 }).is_empty());
    assert!(view.servers(&Place { file: "/b".into(), line: 7 }).is_empty());
    assert!(view.knows_everything());
}

/// The place of a block is where its brace is.
#[test]
fn servers_are_where_nginx_says() {
    let tree = tree(&[("/a", "http {\n server\n # here\n {\n }\n}")]);
    let view = View::new(&tree, 1);
    assert_eq!(view.servers(&Place { file: "/a".into(), line: 4 }).len(), 1);
    assert_eq!(view.servers(&Place { file: "/a".into(), line: 2 }).len(), 0);
}

#[test]
fn a_changed_file_says_nothing() {
    let files: &[(&str, &str)] = &[
        ("/a", "http { include /b; include /c; proxy_read_timeout 1s; proxy_send_timeout 1s; }"),
        ("/b", "\n\n\n\n\n\nserver { location /x { proxy_pass http://x; } proxy_connect_timeout 2s; }"),
        ("/c", "proxy_buffer_size 4k;"),
    ];
    // What is said of /x with that file changed after the workers were started.
    let with = |changed: &str, directive: &str| {
        let mut memory = Memory::of(files);
        memory.0.get_mut(changed).expect("it is there").1 = 3;
        let tree = read(&mut memory, "/a", None).expect("it can be read");
        let view = View::new(&tree, 2);
        assert_eq!(view.changed(), Some(changed));
        assert!(!view.knows_everything());
        match view.servers(&Place { file: "/b".into(), line: 7 }).as_slice() {
            [server] => match view.said(&view.locations(server, "/x")[0], directive) {
                Said::Set(lines) => lines[0].arguments.join(" "),
                Said::Unset => "unset".to_owned(),
                Said::Unknown => "unknown".to_owned(),
            },
            _ => "no server".to_owned(),
        }
    };
    assert_eq!(with("/a", "proxy_read_timeout"), "unknown");
    assert_eq!(with("/a", "proxy_connect_timeout"), "2s");
    assert_eq!(with("/b", "proxy_connect_timeout"), "no server");
    assert_eq!(with("/c", "proxy_read_timeout"), "1s");
    assert_eq!(with("/c", "proxy_buffer_size"), "unknown");
    assert_eq!(with("/c", "proxy_connect_timeout"), "2s");
}

#[test]
fn a_directory_that_was_changed_may_have_lost_a_file() {
    let mut memory = Memory::of(&[("/a", "http { include /d/*; proxy_read_timeout 1s; }"), ("/d/b", "x;")]);
    memory.0.get_mut("/a").expect("it is there").1 = 0;
    memory.0.get_mut("/d/b").expect("it is there").1 = 0;
    let tree = read(&mut memory, "/a", None).expect("it can be read");
    // The listing is of time 1.
    assert!(View::new(&tree, 1).knows_everything());
    assert!(!View::new(&tree, 0).knows_everything());
}
