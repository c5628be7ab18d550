"""The entry point of cni-agent, which serves both plugins."""

from cni_agent.cli import tool


def main() -> None:
    """Run the agent's command-line tool; exits the process."""
    tool(prog_name="cni-agent")


if __name__ == "__main__":
    main()
