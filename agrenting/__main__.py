"""`python -m agrenting` is `agrenting`."""

from agrenting.cli import main

raise SystemExit(main())
