# net-ssh: ruby netssh.rb PORT USER KEY exec COMMAND | forward PORT
require "net/ssh"
port, user, key, what, argument = ARGV
options = { port: port.to_i, keys: [key], keys_only: true, config: false, verify_host_key: :never,
            non_interactive: true, auth_methods: ["publickey"] }
status = 0
Net::SSH.start("127.0.0.1", user, options) do |ssh|
  talk = lambda do |channel, input|
    channel.on_data { |_, data| $stdout.write(data) }
    channel.on_extended_data { |_, _, data| $stderr.write(data) }
    channel.on_request("exit-status") { |_, data| status = data.read_long }
    channel.send_data(input)
    channel.eof!
  end
  if what == "exec"
    input = $stdin.binmode.read
    ssh.open_channel { |channel| channel.exec(argument) { |running, _| talk.call(running, input) } }
  else
    place = [:string, "127.0.0.1", :long, argument.to_i, :string, "127.0.0.1", :long, 0]
    ssh.open_channel("direct-tcpip", *place) { |channel| talk.call(channel, "ping\n") }
  end
  ssh.loop
end
exit status
