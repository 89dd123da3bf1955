/*
 * A service in active mode, written from the description of the wire format
 * alone (docs/active-monitoring.md): requests "%s %x %u" on 127.0.0.1:PORT,
 * answers "%s %8x %d" to 127.0.0.1:REPLY_PORT. Shares no code with pmon.
 *
 * active-monitor --tag NAME --port PORT --reply-port PORT --debug FILE
 *
 * While FILE exists, its first word says what is wrong with the answers:
 * "magic", "sequence", "process", or "silent" for none at all.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT 100

static const char *option(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    fprintf(stderr, "active-monitor: %s is missing\n", name);
    exit(2);
}

static struct sockaddr_in loopback(const char *port)
{
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void read_fault(const char *path, char *word)
{
    FILE *file = fopen(path, "r");
    word[0] = '\0';
    if (file == NULL)
        return;
    if (fscanf(file, "%19s", word) != 1)
        word[0] = '\0';
    fclose(file);
}

int main(int argc, char **argv)
{
    const char *own = option(argc, argv, "--tag");
    const char *debug = option(argc, argv, "--debug");
    struct sockaddr_in listen_on = loopback(option(argc, argv, "--port"));
    struct sockaddr_in reply_to = loopback(option(argc, argv, "--reply-port"));

    int requests = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int answers = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (requests < 0 || answers < 0 ||
        bind(requests, (struct sockaddr *)&listen_on, sizeof listen_on) != 0) {
        perror("active-monitor");
        return 1;
    }
    for (;;) {
        char request[LIMIT], name[LIMIT], answer[2 * LIMIT], fault[20];
        unsigned int magic, sequence;
        ssize_t length = recv(requests, request, sizeof request - 1, 0);
        if (length < 0)
            continue;
        request[length] = '\0';
        if (sscanf(request, "%99s %x %u", name, &magic, &sequence) != 3)
            continue;
        if (strcmp(name, own) != 0)
            continue;
        magic = ~magic;
        read_fault(debug, fault);
        if (strcmp(fault, "silent") == 0)
            continue;
        if (strcmp(fault, "magic") == 0)
            magic = ~magic;
        if (strcmp(fault, "sequence") == 0)
            sequence--;
        if (strcmp(fault, "process") == 0)
            memset(name, 'x', 2);
        length = snprintf(answer, sizeof answer, "%s %8x %d", name, magic, (int)sequence);
        if (sendto(answers, answer, (size_t)length, 0, (struct sockaddr *)&reply_to,
                   sizeof reply_to) != length)
            perror("active-monitor");
    }
}
