// JSch: java -cp jsch.jar Jsch.java PORT USER KEY exec COMMAND | forward PORT
import com.jcraft.jsch.ChannelExec;
import com.jcraft.jsch.JSch;
import com.jcraft.jsch.Session;
import java.net.Socket;

public class Jsch {
    public static void main(String[] words) throws Exception {
        JSch jsch = new JSch();
        jsch.addIdentity(words[2]);
        Session session = jsch.getSession(words[1], "127.0.0.1", Integer.parseInt(words[0]));
        session.setConfig("StrictHostKeyChecking", "no");
        session.connect(20000);
        int status = 0;
        if (words[3].equals("exec")) {
            ChannelExec channel = (ChannelExec) session.openChannel("exec");
            channel.setCommand(words[4]);
            channel.setInputStream(System.in, true);
            channel.setOutputStream(System.out, true);
            channel.setErrStream(System.err, true);
            channel.connect();
            while (!channel.isClosed()) {
                Thread.sleep(10);
            }
            status = channel.getExitStatus();
        } else {
            int port = session.setPortForwardingL(0, "127.0.0.1", Integer.parseInt(words[4]));
            try (Socket socket = new Socket("127.0.0.1", port)) {
                socket.getOutputStream().write("ping\n".getBytes());
                System.out.write(socket.getInputStream().readAllBytes());
            }
        }
        System.out.flush();
        session.disconnect();
        System.exit(status);
    }
}
