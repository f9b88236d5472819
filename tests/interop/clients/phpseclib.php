<?php // phpseclib 2: php phpseclib.php PORT USER KEY exec COMMAND (it has no forwarding, and no input of commands)
require "phpseclib/autoload.php";
[, $port, $user, $file, , $command] = $argv;
$key = new phpseclib\Crypt\RSA();
$key->loadKey(file_get_contents($file)) or exit("the key cannot be read\n");
$ssh = new phpseclib\Net\SSH2("127.0.0.1", (int) $port);
$ssh->login($user, $key) or exit("no login\n");
$ssh->enableQuietMode();
echo $ssh->exec($command);
fwrite(STDERR, $ssh->getStdError());
exit($ssh->getExitStatus());
