// Fails as the path of a request says. What it does it notes in the file `said`, with its pid: app.js HOST PORT
const fs = require('fs'), http = require('http'), path = require('path');
const [host, port] = process.argv.slice(2);
const server = http.createServer((request, response) => {
  const word = request.url.split('/').pop();
  fs.appendFileSync(path.join(__dirname, 'said'), `${word} ${process.pid}\n`);
  if (word.endsWith('exit')) process.exit(1);
  if (word.endsWith('slow')) setTimeout(() => response.end('ok\n'), 200);
  else if (!word.endsWith('hang')) response.end('ok\n');
});
server.keepAliveTimeout = 300;
server.listen(port, host);
