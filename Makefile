# SPDX-License-Identifier: MIT OR Apache-2.0
# make help says what there is.

PREFIX ?= /usr
DESTDIR ?=
# debug or release
PROFILE ?= release

bindir = $(PREFIX)/bin
datadir = $(PREFIX)/share
libdir = $(PREFIX)/lib
unitdir = $(libdir)/systemd/system
userunitdir = $(libdir)/systemd/user
# These are read in one place only, whatever the prefix.
catalogdir = /usr/lib/systemd/catalog
busdir = /usr/share/dbus-1
polkitdir = /usr/share/polkit-1/actions
examples = $(datadir)/doc/watcherd/examples

cargo = nice cargo
built = target/$(PROFILE)
cargo_profile = $(if $(filter release,$(PROFILE)),--release,)
install_file = install -D -m 644
# Units name the programs with their full path.
install_unit = sed 's|/usr/bin/|$(bindir)/|g'

.PHONY: help build run test bench fuzz install uninstall clean

help:
	@echo 'make build      builds watcherd and watcherctl into target/release'
	@echo 'make run        shows the main job: a worker crashes, is explained, and runs again (about a minute)'
	@echo 'make test       runs every test, on real systemd in containers and in a virtual machine (as root)'
	@echo 'make bench      measures: crash to running again, the cost of idle workers, list and monitor (as root)'
	@echo '                PEERS=1 runs monit, supervisord and runit beside it'
	@echo 'make fuzz       feeds random bytes to whatever reads foreign text, SECONDS=60 for each target'
	@echo 'make install    DESTDIR= PREFIX=/usr; afterwards: systemctl enable --now watcherd'
	@echo 'make uninstall  removes what make install made; configuration and state stay'
	@echo 'make clean      removes what was built'

build:
	@packaging/prerequisites build
	$(cargo) build --locked --bins $(cargo_profile)

run:
	@packaging/demo

test:
	@packaging/prerequisites build machine vm test
	@tests/system/make-root bookworm >/dev/null
	@tests/system/make-root trixie >/dev/null
	@tests/system/make-vm bookworm >/dev/null
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
	@for target in $$(cd fuzz && cargo fuzz list); do \
		echo "$$target, $(FUZZ_SECONDS) s"; \
		(cd fuzz && mkdir -p corpus/$$target && RUSTC_BOOTSTRAP=1 $(cargo) fuzz run --sanitizer none $$target \
			corpus/$$target ../packaging/rules.d -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=65536 -rss_limit_mb=1024 -timeout=10 -print_final_stats=0) \
			|| exit 1; done

install: $(if $(wildcard $(built)/watcherctl),,build)
	install -D -m 755 $(built)/watcherd $(DESTDIR)$(bindir)/watcherd
	install -D -m 755 $(built)/watcherctl $(DESTDIR)$(bindir)/watcherctl
	install -d $(DESTDIR)$(unitdir) $(DESTDIR)$(userunitdir)
	$(install_unit) systemd/watcherd.service >$(DESTDIR)$(unitdir)/watcherd.service
	$(install_unit) systemd/user/watcherd.service >$(DESTDIR)$(userunitdir)/watcherd.service
	$(install_file) systemd/watcherd.slice $(DESTDIR)$(unitdir)/watcherd.slice
	$(install_file) systemd/watcherd.slice $(DESTDIR)$(userunitdir)/watcherd.slice
	$(install_file) systemd/catalog/watcherd.catalog $(DESTDIR)$(catalogdir)/watcherd.catalog
	$(install_file) dbus/org.watcherd1.conf $(DESTDIR)$(busdir)/system.d/org.watcherd1.conf
	$(install_file) dbus/org.watcherd1.service $(DESTDIR)$(busdir)/system-services/org.watcherd1.service
	$(install_file) dbus/user/org.watcherd1.service $(DESTDIR)$(busdir)/services/org.watcherd1.service
	$(install_file) dbus/org.watcherd1.policy $(DESTDIR)$(polkitdir)/org.watcherd1.policy
	for xml in Manager Worker Incident Job; do \
		$(install_file) dbus/org.watcherd1.$$xml.xml \
			$(DESTDIR)$(busdir)/interfaces/org.watcherd1.$$xml.xml || exit 1; done
	$(install_file) packaging/watcherd.toml $(DESTDIR)$(examples)/watcherd.toml
	$(install_file) packaging/workers.d/example.toml.sample $(DESTDIR)$(examples)/workers.d/example.toml.sample
	for rules in packaging/rules.d/*.toml; do \
		$(install_file) $$rules $(DESTDIR)$(examples)/rules.d/$${rules##*/} || exit 1; done
	install -d $(DESTDIR)/etc/watcherd/workers.d $(DESTDIR)/etc/watcherd/rules.d
	mkdir -p target/man
	$(built)/watcherctl man target/man
	for page in target/man/*.1 packaging/man/*.[0-9]; do \
		$(install_file) $$page $(DESTDIR)$(datadir)/man/man$${page##*.}/$${page##*/} || exit 1; done
	install -d $(DESTDIR)$(datadir)/bash-completion/completions $(DESTDIR)$(datadir)/zsh/site-functions \
		$(DESTDIR)$(datadir)/fish/vendor_completions.d
	$(built)/watcherctl completions bash >$(DESTDIR)$(datadir)/bash-completion/completions/watcherctl
	$(built)/watcherctl completions zsh >$(DESTDIR)$(datadir)/zsh/site-functions/_watcherctl
	$(built)/watcherctl completions fish >$(DESTDIR)$(datadir)/fish/vendor_completions.d/watcherctl.fish
	@# On the running system the new files have to be noticed; a package does this in its scripts.
	@if [ -z '$(DESTDIR)' ] && [ -d /run/systemd/system ]; then \
		systemctl daemon-reload; journalctl --update-catalog; \
		busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig; fi

uninstall:
	rm -f $(DESTDIR)$(bindir)/watcherd $(DESTDIR)$(bindir)/watcherctl \
		$(DESTDIR)$(unitdir)/watcherd.service $(DESTDIR)$(unitdir)/watcherd.slice \
		$(DESTDIR)$(userunitdir)/watcherd.service $(DESTDIR)$(userunitdir)/watcherd.slice \
		$(DESTDIR)$(catalogdir)/watcherd.catalog \
		$(DESTDIR)$(busdir)/system.d/org.watcherd1.conf \
		$(DESTDIR)$(busdir)/system-services/org.watcherd1.service \
		$(DESTDIR)$(busdir)/services/org.watcherd1.service \
		$(DESTDIR)$(busdir)/interfaces/org.watcherd1.*.xml \
		$(DESTDIR)$(polkitdir)/org.watcherd1.policy \
		$(DESTDIR)$(datadir)/man/man*/watcherctl.* $(DESTDIR)$(datadir)/man/man*/watcherd* \
		$(DESTDIR)$(datadir)/man/man*/org.watcherd1.* \
		$(DESTDIR)$(datadir)/bash-completion/completions/watcherctl \
		$(DESTDIR)$(datadir)/zsh/site-functions/_watcherctl \
		$(DESTDIR)$(datadir)/fish/vendor_completions.d/watcherctl.fish
	rm -rf $(DESTDIR)$(datadir)/doc/watcherd

clean:
	cargo clean
	rm -rf dist
