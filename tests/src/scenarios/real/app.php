<?php
// Fails as the path of a request says. What it does it notes in the file `said`, with its pid.
$path = explode('/', $_SERVER['REQUEST_URI']);
$word = end($path);
file_put_contents(__DIR__ . '/said', "$word " . getmypid() . "\n", FILE_APPEND);
if (str_ends_with($word, 'hang')) {
    // A signal ends one sleep, not all of them.
    for ($i = 0; $i < 60; $i++) {
        sleep(1);
    }
} elseif (str_ends_with($word, 'crash')) {
    posix_kill(getmypid(), 11);
}
echo "ok\n";
