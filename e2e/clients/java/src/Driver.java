import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Manager;
import io.socket.client.Socket;
import io.socket.engineio.client.Transport;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** The Java client, told what to do and telling what it hears in lines of JSON (../README.md). */
public final class Driver {
    private static final Map<String, Socket> SOCKETS = new HashMap<>();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            JSONObject what = new JSONObject(line);
            String action = what.getString("action");
            switch (action) {
                case "open" -> open(what);
                case "emit" -> emit(what);
                case "transport" -> transport(what.getString("name"));
                default -> throw new IllegalArgumentException(action);
            }
        }
        System.exit(0);
    }

    private static void open(JSONObject what) throws Exception {
        IO.Options options = new IO.Options();
        options.transports = strings(what.getJSONArray("transports"));
        options.forceNew = true;
        options.reconnectionDelay = 50;
        options.reconnectionDelayMax = 250;
        options.randomizationFactor = 0;
        String name = what.getString("name");
        Socket socket = IO.socket(what.getString("url"), options);
        SOCKETS.put(name, socket);
        socket.on(Socket.EVENT_CONNECT, ignored -> say(name, "connect", Map.of()));
        socket.on(Socket.EVENT_DISCONNECT, why -> say(name, "disconnect", Map.of("reason", why[0])));
        for (String event : strings(what.getJSONArray("events"))) {
            socket.on(event, args -> say(name, "event", Map.of("event", event, "args", toLine(args))));
        }
        socket.connect();
    }

    private static void emit(JSONObject what) throws JSONException {
        String name = what.getString("name");
        Object[] args = values((JSONArray) fromLine(what.getJSONArray("args")));
        Ack ack = null;
        if (what.has("ack")) {
            int id = what.getInt("ack");
            ack = answer -> say(name, "ack", Map.of("ack", id, "args", toLine(answer)));
        }
        SOCKETS.get(name).emit(what.getString("event"), args, ack);
    }

    /** The client has it, and shows it to nobody. */
    private static void transport(String name) throws Exception {
        Manager manager = SOCKETS.get(name).io();
        Transport transport = (Transport) field(field(manager, Manager.class, "engine"),
                io.socket.engineio.client.Socket.class, "transport");
        say(name, "transport", Map.of("transport", transport.name));
    }

    private static Object field(Object of, Class<?> kind, String name) throws ReflectiveOperationException {
        Field field = kind.getDeclaredField(name);
        field.setAccessible(true);
        return field.get(of);
    }

    private static void say(String name, String on, Map<String, Object> more) {
        try {
            JSONObject line = new JSONObject().put("name", name).put("on", on);
            for (Map.Entry<String, Object> entry : more.entrySet()) {
                line.put(entry.getKey(), entry.getValue());
            }
            OUT.println(line);
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    /** Bytes stand in a line as {"$bytes": base64}. */
    private static Object toLine(Object value) {
        try {
            if (value instanceof byte[] bytes) {
                return new JSONObject().put("$bytes", Base64.getEncoder().encodeToString(bytes));
            }
            if (value instanceof Object[] values) {
                return toLine(new JSONArray(Arrays.asList(values)));
            }
            if (value instanceof JSONArray array) {
                JSONArray line = new JSONArray();
                for (Object inner : values(array)) {
                    line.put(toLine(inner));
                }
                return line;
            }
            if (value instanceof JSONObject object) {
                JSONObject line = new JSONObject();
                for (String key : keys(object)) {
                    line.put(key, toLine(object.get(key)));
                }
                return line;
            }
            return value;
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    private static Object fromLine(Object value) throws JSONException {
        if (value instanceof JSONArray array) {
            JSONArray made = new JSONArray();
            for (Object inner : values(array)) {
                made.put(fromLine(inner));
            }
            return made;
        }
        if (value instanceof JSONObject object) {
            if (object.has("$bytes")) {
                return Base64.getDecoder().decode(object.getString("$bytes"));
            }
            JSONObject made = new JSONObject();
            for (String key : keys(object)) {
                made.put(key, fromLine(object.get(key)));
            }
            return made;
        }
        return value;
    }

    private static String[] keys(JSONObject object) {
        String[] names = JSONObject.getNames(object);
        return names == null ? new String[0] : names;
    }

    private static Object[] values(JSONArray array) throws JSONException {
        Object[] values = new Object[array.length()];
        for (int i = 0; i < values.length; i++) {
            values[i] = array.get(i);
        }
        return values;
    }

    private static String[] strings(JSONArray array) throws JSONException {
        return Arrays.copyOf(values(array), array.length(), String[].class);
    }
}
