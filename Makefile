# SPDX-License-Identifier: MIT OR Apache-2.0
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CARGO ?= cargo
INSTALL ?= install

DESTDIR ?=
PREFIX ?= /usr
SYSCONFDIR ?= /etc
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/watcherd
# systemd, the bus and polkit look in these places only, so PREFIX does not move them.
SYSTEMUNITDIR ?= $(or $(shell pkg-config systemd --variable=systemdsystemunitdir 2>/dev/null),$(PREFIX)/lib/systemd/system)
USERUNITDIR ?= $(or $(shell pkg-config systemd --variable=systemduserunitdir 2>/dev/null),$(PREFIX)/lib/systemd/user)
CATALOGDIR ?= $(PREFIX)/lib/systemd/catalog
DBUSDATADIR ?= /usr/share/dbus-1
POLKITACTIONDIR ?= /usr/share/polkit-1/actions
# Where the two programs are; set it to install what was built elsewhere.
BINARIES ?= target/release

CONFDIRS := workers.d pools.d limits.d rules.d
MAN_SECTIONS := 1 5 8

.PHONY: help build run test bench install uninstall clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo 'Variables of install and uninstall: DESTDIR= PREFIX=/usr SYSCONFDIR=/etc BINARIES=target/release'

build: ## Build the release programs
	@packaging/prerequisites build
	$(CARGO) build --release --locked

run: ## Watch a worker crash and recover, on a private machine or your own user manager
	@packaging/prerequisites build run
	@packaging/demo/run --prepare & prepared=$$!; $(CARGO) build --locked; wait $$prepared
	@packaging/demo/run target/debug

test: ## Run all tests; those against real systemd need root
	@packaging/prerequisites build test
	$(CARGO) test --locked $(TESTFLAGS)

bench: ## Measure against real systemd
	@packaging/prerequisites build test
	$(CARGO) test --locked --release --test it -- --ignored bench --nocapture $(BENCHFLAGS)

ifeq ($(BINARIES),target/release)
# As root, with sudo say, there is often no cargo: then what was built before is installed.
install: $(if $(shell command -v $(CARGO)),build,$(if $(wildcard $(BINARIES)/watcherctl),,build))
endif
install: ## Install below $(DESTDIR)
	$(INSTALL) -Dm755 -t $(DESTDIR)$(BINDIR) $(BINARIES)/watcherd $(BINARIES)/watcherctl
	$(INSTALL) -d $(DESTDIR)$(SYSTEMUNITDIR) $(DESTDIR)$(USERUNITDIR)
	sed 's|@bindir@|$(BINDIR)|' systemd/watcherd.service >$(DESTDIR)$(SYSTEMUNITDIR)/watcherd.service
	sed 's|@bindir@|$(BINDIR)|' systemd/watcherd-user.service >$(DESTDIR)$(USERUNITDIR)/watcherd.service
	chmod 644 $(DESTDIR)$(SYSTEMUNITDIR)/watcherd.service $(DESTDIR)$(USERUNITDIR)/watcherd.service
	$(INSTALL) -m644 -t $(DESTDIR)$(SYSTEMUNITDIR) systemd/watcherd.slice
	$(INSTALL) -m644 -t $(DESTDIR)$(USERUNITDIR) systemd/watcherd.slice
	$(INSTALL) -Dm644 -t $(DESTDIR)$(CATALOGDIR) systemd/catalog/watcherd.catalog
	$(INSTALL) -Dm644 -t $(DESTDIR)$(DBUSDATADIR)/system.d dbus/org.watcherd1.conf
	$(INSTALL) -Dm644 -t $(DESTDIR)$(DBUSDATADIR)/system-services dbus/org.watcherd1.service
	$(INSTALL) -Dm644 dbus/org.watcherd1-user.service $(DESTDIR)$(DBUSDATADIR)/services/org.watcherd1.service
	$(INSTALL) -d $(DESTDIR)$(DBUSDATADIR)/interfaces
	for file in dbus/org.watcherd1.*.xml; do [ ! -e "$$file" ] || $(INSTALL) -m644 -t $(DESTDIR)$(DBUSDATADIR)/interfaces "$$file"; done
	$(INSTALL) -Dm644 -t $(DESTDIR)$(POLKITACTIONDIR) dbus/org.watcherd1.policy
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d $(addprefix $(DESTDIR)$(MANDIR)/man,$(MAN_SECTIONS))
	$(BINARIES)/watcherctl completions bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/watcherctl
	$(BINARIES)/watcherctl completions zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_watcherctl
	$(BINARIES)/watcherctl completions fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/watcherctl.fish
	pages=$$(mktemp -d); trap 'rm -rf "$$pages"' EXIT; $(BINARIES)/watcherctl man "$$pages"; \
	    for section in $(MAN_SECTIONS); do \
	        find "$$pages" packaging/man -name "*.$$section" -exec $(INSTALL) -m644 -t $(DESTDIR)$(MANDIR)/man$$section {} + 2>/dev/null || true; \
	    done
	$(INSTALL) -d $(DESTDIR)$(DOCDIR)/examples
	for file in packaging/*.toml; do [ ! -e "$$file" ] || $(INSTALL) -m644 -t $(DESTDIR)$(DOCDIR)/examples "$$file"; done
	$(INSTALL) -d $(addprefix $(DESTDIR)$(SYSCONFDIR)/watcherd/,$(CONFDIRS))

uninstall: ## Remove what install has put there; configuration and state stay
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,watcherd watcherctl)
	rm -f $(addprefix $(DESTDIR)$(SYSTEMUNITDIR)/,watcherd.service watcherd.slice)
	rm -f $(addprefix $(DESTDIR)$(USERUNITDIR)/,watcherd.service watcherd.slice)
	rm -f $(DESTDIR)$(CATALOGDIR)/watcherd.catalog
	rm -f $(DESTDIR)$(DBUSDATADIR)/system.d/org.watcherd1.conf $(DESTDIR)$(DBUSDATADIR)/system-services/org.watcherd1.service
	rm -f $(DESTDIR)$(DBUSDATADIR)/services/org.watcherd1.service $(DESTDIR)$(DBUSDATADIR)/interfaces/org.watcherd1.*.xml
	rm -f $(DESTDIR)$(POLKITACTIONDIR)/org.watcherd1.policy
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/watcherctl
	rm -f $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_watcherctl
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/watcherctl.fish
	rm -f $(foreach section,$(MAN_SECTIONS),$(addprefix $(DESTDIR)$(MANDIR)/man$(section)/,watcherd.$(section) watcherctl.$(section) watcherctl-*.$(section) watcherd.*.$(section)))
	rm -rf $(DESTDIR)$(DOCDIR)
	rmdir --ignore-fail-on-non-empty $(addprefix $(DESTDIR)$(SYSCONFDIR)/watcherd/,$(CONFDIRS)) $(DESTDIR)$(SYSCONFDIR)/watcherd 2>/dev/null || true

clean: ## Remove everything that was built, the trees of the test machines too
	$(CARGO) clean
	rm -rf dist
