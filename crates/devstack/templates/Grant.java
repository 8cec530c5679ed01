// Gives users of Kafka their passwords and rights: java -cp JARS Grant.java ADMIN_PROPERTIES LINES
import java.nio.file.*;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.resource.*;

public class Grant {
    public static void main(String[] args) throws Exception {
        var properties = new Properties();
        try (var text = Files.newBufferedReader(Path.of(args[0]))) { properties.load(text); }
        var users = new ArrayList<UserScramCredentialAlteration>();
        var rules = new ArrayList<AclBinding>();
        var info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096);
        for (String line : Files.readAllLines(Path.of(args[1]))) {
            String[] field = line.split("\t");
            if (field[0].equals("user")) {
                users.add(new UserScramCredentialUpsertion(field[1], info, field[2]));
            } else {
                var operation = AclOperation.valueOf(field[5].replaceAll("([a-z])([A-Z])", "$1_$2").toUpperCase());
                var pattern = new ResourcePattern(ResourceType.fromString(field[2]), field[3], PatternType.fromString(field[4].toUpperCase()));
                rules.add(new AclBinding(pattern, new AccessControlEntry("User:" + field[1], "*", operation, AclPermissionType.ALLOW)));
            }
        }
        try (Admin admin = Admin.create(properties)) {
            admin.alterUserScramCredentials(users).all().get();
            admin.createAcls(rules).all().get();
        }
    }
}
