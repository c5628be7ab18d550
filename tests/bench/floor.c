/* The floor under an ADD and a DEL of a macvlan: the kernel's changes of cni-vlan, and nothing else.
 *
 *   floor PARENT NETNS IFNAME ADDRESS PREFIX GATEWAY
 *   floor NETNS IFNAME
 *
 * No configuration, no lease, no record, no undo. What an ADD takes beyond this is ours to explain.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 4096 };

static char batch[BATCH];
static size_t used;
static int sequence;

static struct nlmsghdr *begin(int type, int flags, const void *head, size_t size)
{
    struct nlmsghdr *message = (struct nlmsghdr *)(batch + used);
    memset(message, 0, NLMSG_SPACE(size));
    message->nlmsg_len = NLMSG_LENGTH(size);
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message->nlmsg_seq = ++sequence;
    memcpy(NLMSG_DATA(message), head, size);
    return message;
}

static struct rtattr *put(struct nlmsghdr *message, int type, const void *data, size_t size)
{
    struct rtattr *attribute = (struct rtattr *)((char *)message + NLMSG_ALIGN(message->nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = RTA_LENGTH(size);
    if (size)
        memcpy(RTA_DATA(attribute), data, size);
    message->nlmsg_len = NLMSG_ALIGN(message->nlmsg_len) + RTA_ALIGN(attribute->rta_len);
    return attribute;
}

static void put_number(struct nlmsghdr *message, int type, unsigned number)
{
    put(message, type, &number, sizeof number);
}

static void close_nest(struct nlmsghdr *message, struct rtattr *nest)
{
    nest->rta_len = (char *)message + message->nlmsg_len - (char *)nest;
}

static void end(struct nlmsghdr *message)
{
    used += NLMSG_ALIGN(message->nlmsg_len);
}

/* Send what was put together; fail with the first error. */
static void commit(int fd, int messages)
{
    static char reply[32768];
    if (send(fd, batch, used, 0) < 0)
        err(1, "send");
    used = 0;
    while (messages > 0) {
        ssize_t length = recv(fd, reply, sizeof reply, 0);
        if (length < 0)
            err(1, "recv");
        for (struct nlmsghdr *m = (struct nlmsghdr *)reply; NLMSG_OK(m, length); m = NLMSG_NEXT(m, length)) {
            struct nlmsgerr *error = NLMSG_DATA(m);
            if (m->nlmsg_type == NLMSG_ERROR && error->error)
                errx(1, "message %d: %s", m->nlmsg_seq, strerror(-error->error));
            messages--;
        }
    }
}

static int find(int fd, const char *name)
{
    static char reply[32768];
    struct ifinfomsg info = {0};
    struct nlmsghdr *message = begin(RTM_GETLINK, 0, &info, sizeof info);
    message->nlmsg_flags &= ~NLM_F_ACK;
    put(message, IFLA_IFNAME, name, strlen(name) + 1);
    end(message);
    if (send(fd, batch, used, 0) < 0 || recv(fd, reply, sizeof reply, 0) < 0)
        err(1, "find %s", name);
    used = 0;
    struct nlmsghdr *answer = (struct nlmsghdr *)reply;
    if (answer->nlmsg_type == NLMSG_ERROR)
        errx(1, "no link %s", name);
    return ((struct ifinfomsg *)NLMSG_DATA(answer))->ifi_index;
}

static int rtnetlink(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl any = {.nl_family = AF_NETLINK};
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any))
        err(1, "rtnetlink");
    return fd;
}

static void create(int fd, int parent, int netns, const char *name)
{
    struct ifinfomsg info = {0};
    struct nlmsghdr *message = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    put(message, IFLA_IFNAME, name, strlen(name) + 1);
    put_number(message, IFLA_LINK, parent);
    put_number(message, IFLA_NET_NS_FD, netns);
    struct rtattr *link = put(message, IFLA_LINKINFO, NULL, 0);
    put(message, IFLA_INFO_KIND, "macvlan", 8);
    struct rtattr *data = put(message, IFLA_INFO_DATA, NULL, 0);
    put_number(message, IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE);
    close_nest(message, data);
    close_nest(message, link);
    end(message);
    commit(fd, 1);
}

static void name_it(int fd, int index, const char *name)
{
    static const char alias[] = "cni-vlan child: as long as that of a real one, so many bytes";
    struct ifinfomsg info = {.ifi_index = index};
    struct nlmsghdr *message = begin(RTM_NEWLINK, 0, &info, sizeof info);
    put(message, IFLA_IFNAME, name, strlen(name) + 1);
    put(message, IFLA_IFALIAS, alias, sizeof alias);
    end(message);
    commit(fd, 1);
}

static void configure(int fd, int index, const char *address, int prefix, const char *gateway)
{
    struct in_addr own, via, broadcast;
    if (inet_pton(AF_INET, address, &own) != 1 || inet_pton(AF_INET, gateway, &via) != 1)
        errx(1, "%s, %s: not addresses", address, gateway);
    broadcast.s_addr = own.s_addr | htonl(0xffffffffu >> prefix);

    struct ifaddrmsg info = {.ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = index};
    struct nlmsghdr *message = begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
    put(message, IFA_LOCAL, &own, sizeof own);
    put(message, IFA_ADDRESS, &own, sizeof own);
    put(message, IFA_BROADCAST, &broadcast, sizeof broadcast);
    end(message);

    struct ifinfomsg up = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    end(begin(RTM_NEWLINK, 0, &up, sizeof up));
    used = NLMSG_ALIGN(used);

    struct rtmsg route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
                          .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
    message = begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, &route, sizeof route);
    put_number(message, RTA_OIF, index);
    put(message, RTA_GATEWAY, &via, sizeof via);
    end(message);
    commit(fd, 3);
}

static void set(const char *ifname, const char *key, const char *value)
{
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/%s", ifname, key);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, 1) != 1)
        err(1, "%s", path);
    close(fd);
}

static void delete(int fd, int index)
{
    struct ifinfomsg info = {.ifi_index = index};
    end(begin(RTM_DELLINK, 0, &info, sizeof info));
    commit(fd, 1);
}

static int enter(const char *path)
{
    int netns = open(path, O_RDONLY | O_CLOEXEC);
    if (netns < 0 || setns(netns, CLONE_NEWNET))
        err(1, "%s", path);
    return netns;
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        enter(argv[1]);
        int inside = rtnetlink();
        delete(inside, find(inside, argv[2]));
        return 0;
    }
    if (argc != 7)
        errx(2, "floor PARENT NETNS IFNAME ADDRESS PREFIX GATEWAY, or floor NETNS IFNAME");
    const char *temporary = "vfloor", *ifname = argv[3];
    int host = rtnetlink(), parent = find(host, argv[1]), netns = enter(argv[2]);
    create(host, parent, netns, temporary);
    int inside = rtnetlink(), index = find(inside, temporary);
    name_it(inside, index, ifname);
    set(ifname, "accept_ra", "0");
    set(ifname, "disable_ipv6", "1");
    configure(inside, index, argv[4], atoi(argv[5]), argv[6]);
    return 0;
}
