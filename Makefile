# SPDX-License-Identifier: MIT OR Apache-2.0
# make help says what there is.

PREFIX ?= /usr
DESTDIR ?=
# debug or release
PROFILE ?= release

bindir = $(PREFIX)/bin
datadir = $(PREFIX)/share
libdir = $(PREFIX)/lib
docdir = $(datadir)/doc/watcherd
examples = $(docdir)/examples
licensedir = $(datadir)/licenses/watcherd
unitdir = $(libdir)/systemd/system
userunitdir = $(libdir)/systemd/user
# These are read in one place only, whatever the prefix.
catalogdir = /usr/lib/systemd/catalog
busdir = /usr/share/dbus-1
polkitdir = /usr/share/polkit-1/actions
confdir = /etc/watcherd

cargo = nice cargo
built = target/$(PROFILE)
cargo_profile = $(if $(filter release,$(PROFILE)),--release,)
generated = target/generated
# Every file is named, unless make is to be silent.
told = $(if $(findstring s,$(firstword -$(MAKEFLAGS))),,-v)

# What is installed where, FILE:DIRECTORY or FILE:DIRECTORY/NAME; uninstall and every package go by this list. What lies in
# one of these directories of the source is in it by itself.
to = $(foreach file,$(1),$(file):$(2)/$(notdir $(file)))
programs = $(call to,$(built)/watcherd $(built)/watcherctl,$(bindir))
files = \
	$(call to,$(wildcard systemd/*.service systemd/*.slice),$(unitdir)) \
	$(call to,$(wildcard systemd/user/*.service) systemd/watcherd.slice,$(userunitdir)) \
	$(call to,$(wildcard systemd/sysusers.d/*),$(libdir)/sysusers.d) \
	$(call to,$(wildcard systemd/tmpfiles.d/*),$(libdir)/tmpfiles.d) \
	$(call to,$(wildcard systemd/system-preset/*),$(libdir)/systemd/system-preset) \
	$(call to,$(wildcard systemd/user-preset/*),$(libdir)/systemd/user-preset) \
	$(call to,$(wildcard systemd/catalog/*),$(catalogdir)) \
	$(call to,$(wildcard dbus/*.conf),$(busdir)/system.d) \
	$(call to,$(wildcard dbus/*.service),$(busdir)/system-services) \
	$(call to,$(wildcard dbus/user/*.service),$(busdir)/services) \
	$(call to,$(wildcard dbus/*.xml),$(busdir)/interfaces) \
	$(call to,$(wildcard dbus/*.policy),$(polkitdir)) \
	$(foreach n,1 5 8,$(call to,$(wildcard packaging/man/*.$(n)),$(datadir)/man/man$(n))) \
	$(generated)/watcherctl.1:$(datadir)/man/man1/watcherctl.1 \
	$(generated)/watcherctl.bash:$(datadir)/bash-completion/completions/watcherctl \
	$(generated)/watcherctl.zsh:$(datadir)/zsh/site-functions/_watcherctl \
	$(generated)/watcherctl.fish:$(datadir)/fish/vendor_completions.d/watcherctl.fish \
	$(call to,packaging/watcherd.toml,$(examples)) \
	$(call to,$(wildcard packaging/workers.d/*),$(examples)/workers.d) \
	$(call to,$(wildcard packaging/rules.d/*),$(examples)/rules.d) \
	$(call to,$(wildcard packaging/polkit/*),$(examples)/polkit) \
	$(call to,README.md CHANGELOG.md,$(docdir)) \
	$(call to,LICENSE-MIT LICENSE-APACHE,$(licensedir))
directories = $(confdir)/workers.d $(confdir)/rules.d

.PHONY: help build run test bench fuzz install uninstall deb rpm arch clean

help:
	@echo 'make build      builds watcherd and watcherctl into target/release'
	@echo 'make run        shows the main job: a worker crashes, is explained, and runs again (about a minute)'
	@echo 'make test       runs every test, on real systemd in containers and in a virtual machine (as root)'
	@echo 'make bench      measures: crash to running again, the cost of idle workers, list and monitor (as root)'
	@echo '                PEERS=1 runs monit, supervisord and runit beside it'
	@echo 'make fuzz       feeds random bytes to whatever reads foreign text, SECONDS=60 for each target'
	@echo 'make install    DESTDIR= PREFIX=/usr; afterwards: systemctl enable --now watcherd'
	@echo 'make deb        builds the Debian package into dist/, from vendored crates and without network (Debian 12 and 13)'
	@echo 'make rpm        builds the RPM package into dist/ (Fedora, RHEL 9)'
	@echo 'make arch       builds the package of Arch Linux into dist/'
	@echo 'make uninstall  removes what make install made; configuration and state stay'
	@echo 'make clean      removes what was built'

build:
	@packaging/prerequisites build
	$(cargo) build --locked --bins $(cargo_profile)

run:
	@packaging/demo

test:
	@packaging/prerequisites build machine vm deb rpm arch test
	@tests/system/make-root bookworm >/dev/null
	@tests/system/make-root trixie >/dev/null
	@tests/system/make-vm bookworm >/dev/null
	@tests/system/make-vm trixie >/dev/null
	$(cargo) test --locked

bench:
	@packaging/prerequisites build machine $(if $(PEERS),peers,)
	@tests/system/make-root bookworm >/dev/null
	PEERS=$(PEERS) $(cargo) bench --locked --bench bench

# cargo-fuzz wants a nightly compiler for its sanitizers; memory is safe here, so that any compiler will do.
FUZZ_SECONDS = $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),60)
fuzz:
	@packaging/prerequisites build
	@cargo fuzz --version >/dev/null 2>&1 || $(cargo) install --locked cargo-fuzz
	@export TMPDIR=$$(mktemp -d); trap 'rm -rf "$$TMPDIR"' EXIT; \
		for target in $$(cd fuzz && cargo fuzz list); do \
		echo "$$target, $(FUZZ_SECONDS) s"; \
		(cd fuzz && mkdir -p corpus/$$target && RUSTC_BOOTSTRAP=1 $(cargo) fuzz run --sanitizer none $$target \
			corpus/$$target ../packaging/rules.d -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=65536 -rss_limit_mb=1024 -timeout=10 -print_final_stats=0) \
			|| exit 1; done

install: $(if $(wildcard $(built)/watcherctl),,build)
	@mkdir -p $(generated)
	@# Another make may be at it, too.
	@set -e; new=$$(mktemp -d $(generated)/new.XXXXXX); $(built)/watcherctl man $$new; \
		for shell in bash zsh fish; do $(built)/watcherctl completions $$shell >$$new/watcherctl.$$shell; done; \
		mv -f $$new/* $(generated)/; rmdir $$new
	install -d $(addprefix $(DESTDIR),$(directories))
	@set -e; for item in $(programs); do \
		install $(told) -D -m 755 "$${item%%:*}" "$(DESTDIR)$${item#*:}"; done
	@# Units name the programs with their full path.
	@set -e; for item in $(files); do \
		install $(told) -D -m 644 "$${item%%:*}" "$(DESTDIR)$${item#*:}"; \
		case $$item in *.service) sed -i 's|/usr/bin/watcher|$(bindir)/watcher|g' "$(DESTDIR)$${item#*:}" ;; esac; done
	@# On the running system the new files have to be noticed; a package does this in its scripts.
	@if [ -z '$(DESTDIR)' ] && [ -d /run/systemd/system ]; then \
		systemd-sysusers watcherd.conf; systemd-tmpfiles --create watcherd.conf; \
		systemctl daemon-reload; journalctl --update-catalog; \
		busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig; fi

deb:
	@packaging/prerequisites build deb
	packaging/debian/build

rpm: build
	@packaging/prerequisites rpm
	packaging/rpm/build $(built)

arch: build
	@packaging/prerequisites arch
	packaging/arch/build $(built)

uninstall:
	@for item in $(programs) $(files); do rm -f "$(DESTDIR)$${item#*:}"; done
	rm -rf $(DESTDIR)$(docdir) $(DESTDIR)$(licensedir)

clean:
	cargo clean
	rm -rf dist
