// ssh2 of node.js: node node.js PORT USER KEY exec COMMAND | forward PORT
const { Client } = require("ssh2");
const [port, username, key, what, argument] = process.argv.slice(2);
const connection = new Client();
connection.on("error", (error) => { console.error(error.message); process.exitCode = 255; });
connection.on("ready", () => {
  const talk = (error, stream) => {
    if (error) throw error;
    stream.pipe(process.stdout);
    stream.on("exit", (code) => { process.exitCode = code; });
    stream.on("close", () => connection.end());
    if (stream.stderr) stream.stderr.pipe(process.stderr);
    if (what === "exec") process.stdin.pipe(stream); else stream.end("ping\n");
  };
  if (what === "exec") connection.exec(argument, talk);
  else connection.forwardOut("127.0.0.1", 0, "127.0.0.1", Number(argument), talk);
});
connection.connect({ host: "127.0.0.1", port: Number(port), username,
                     privateKey: require("fs").readFileSync(key) });
