"""Failures in words: messages for people, where the text of an exception would not help them."""

import os
import re
import ssl

_LOGIN = re.compile(r"(?<=//).*@")
_QUERY = re.compile(r"\?.*")
_ERRNO = re.compile(r"\[Errno (-?\d+)\]")
_DRIVERS = {"unexpected connection_lost() call": "it closed the connection"}
"""Internal messages of drivers, and what they mean."""


def why(error: BaseException) -> str:
    """The reason for ``error``: the operating system's text if it is one of its errors, else the
    driver's text, else the name of the class.
    """
    error = _below(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    numbers = [number for number in _numbers(error) if number > 0]
    if numbers:
        return " and ".join(os.strerror(number).lower() for number in numbers)
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return _DRIVERS.get(text, text.removeprefix("nats: ").strip()) or type(error).__name__


def failed(what: str, error: BaseException) -> str:
    """That ``what`` failed, and why."""
    return f"{what}: {why(error)}"


def unreachable(server: str, error: BaseException, remedy: str | None = None) -> str:
    """That a server cannot be reached, why, and what to do: what the error itself suggests, unless
    ``remedy`` knows better. ``server`` says which and where.
    """
    return f"cannot connect to {server}: {why(error)}; {remedy or _remedy(_below(error))}"


def redacted(url: str) -> str:
    """``url`` without user, password and parameters."""
    return _QUERY.sub("", _LOGIN.sub("", url))


def _remedy(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "configure the CA that signed it, and use a host name that it covers"
    if isinstance(error, TimeoutError) or _numbers(error):
        return "start it or correct its address"
    return "check the address and the login"


def _below(error: BaseException) -> BaseException:
    """The operating system's error, where a driver has wrapped it into an error of its own."""
    cause = error.__cause__
    return cause if isinstance(error, OSError) and isinstance(cause, OSError) else error


def _numbers(error: BaseException) -> list[int]:
    """The errnos of an operating system's error; those of name resolution are negative. If several
    addresses failed, asyncio has put all their errors into one text.
    """
    if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
        return []
    number = error.errno or next(iter(error.args), None)
    if isinstance(number, int):
        return [number]
    return list(dict.fromkeys(map(int, _ERRNO.findall(str(error)))))
