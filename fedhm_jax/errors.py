"""The one exception a user's mistake raises."""


class ConfigError(ValueError):
    """A value the simulator cannot run with.

    The message is one sentence that names the field, the value given and what is allowed. The command line
    prints it and exits with code 2.

    Example:
        >>> str(ConfigError.of("local.epochs", -1, "an integer of at least 1"))
        'local.epochs is -1, but must be an integer of at least 1'
    """

    @classmethod
    def of(cls, field: str, value: object, allowed: str) -> "ConfigError":
        """Builds the standard sentence: ``<field> is <value>, but must be <allowed>``.

        Args:
            field: dotted path of the config field, for example ``"local.epochs"``.
            value: the value that was given.
            allowed: what the field accepts, in words that follow "must be".

        Returns:
            The exception, ready to raise.
        """
        shown = value if isinstance(value, int | float) else repr(value)
        return cls(f"{field} is {shown}, but must be {allowed}")
